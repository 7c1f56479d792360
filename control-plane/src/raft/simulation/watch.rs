//! A watch channel that wakes its waiters in the order in which they came. tokio's has them in parts that it draws by a
//! number nobody can seed, so that two runs of a seed would part ways.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};

use openraft::async_runtime::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use openraft::{OptionalSend, OptionalSync};

/// The channels.
pub struct OrderedWatch;

struct Shared<T> {
    value: RwLock<T>,
    turn: Mutex<Turn>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

#[derive(Default)]
struct Turn {
    version: u64,
    is_closed: bool,
    waiting: Vec<Waker>,
}

impl<T> Shared<T> {
    fn value(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, of: impl FnOnce(&mut Turn)) {
        let waiting = {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            of(&mut turn);
            std::mem::take(&mut turn.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn version(&self) -> u64 {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).version
    }

    fn receiver(self: &Arc<Self>, seen: u64) -> Receiver<T> {
        self.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver { shared: self.clone(), seen }
    }
}

/// Where values come from.
pub struct Sender<T>(Arc<Shared<T>>);

/// Where they are seen.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.wake(|turn| turn.is_closed = true);
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receiver(self.seen)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = RwLockReadGuard<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Shared {
            value: RwLock::new(init),
            turn: Mutex::default(),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
        });
        let receiver = shared.receiver(0);
        (Sender(shared), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<OrderedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.load(Ordering::Relaxed) == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|before| {
            *before = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let is_modified = modify(&mut self.0.value.write().unwrap_or_else(PoisonError::into_inner));
        if is_modified {
            self.0.wake(|turn| turn.version += 1);
        }
        is_modified
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.0.value()
    }

    fn subscribe(&self) -> Receiver<T> {
        self.0.receiver(self.0.version())
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<OrderedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        let (shared, seen) = (&self.shared, &mut self.seen);
        poll_fn(|context| {
            let mut turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if turn.version != *seen {
                *seen = turn.version;
                return Poll::Ready(Ok(()));
            }
            if turn.is_closed {
                return Poll::Ready(Err(RecvError(())));
            }
            if !turn.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                turn.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.shared.value()
    }

    fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        self.seen = self.shared.version();
        self.shared.value()
    }
}
