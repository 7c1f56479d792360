//! Room in the pool that is kept for components: nobody else's instances get it, however much others are asked.
//!
//! What is kept for a component is taken out of the pool as it becomes free there, and given back as its own instances end.
//! Where all that is reserved is more than can be kept, it is kept by priority, then by name, as the scheduler counts it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::id::GraphKey;
use model::name::ComponentName;
use model::reserve::Priority;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Room that is taken out of the pool or given back at one time: that of some instances, so that who waits for the pool does
/// not wait for long behind it, and it not behind each of them.
const AT_ONCE_MAX: usize = 32;

/// A component of a graph, whatever its generation; that of a candidate is that of its graph.
type Owner = (GraphKey, ComponentName);

/// What is kept, for all components of a node.
pub(crate) struct Reserves {
    pool: Arc<Semaphore>,
    /// The most that is kept for all together, in memories of the pool.
    most: u32,
    /// As much, less what is taken: what changes hands is not taken twice meanwhile.
    bound: Arc<Semaphore>,
    book: Arc<Mutex<Book>>,
    /// What is granted in all, in memories.
    granted: watch::Receiver<u32>,
}

struct Book {
    kept: BTreeMap<Owner, Kept>,
    last: u64,
    granted: watch::Sender<u32>,
}

/// What is kept for one component.
struct Kept {
    /// Of what is here of its generations, by their numbers; those of candidates ask for nothing.
    claims: BTreeMap<u64, Option<(Priority, u32)>>,
    own: Arc<Semaphore>,
    aim: watch::Sender<u32>,
}

/// The right to what is kept for a component, until this is dropped.
pub(crate) struct Claim {
    book: Arc<Mutex<Book>>,
    most: u32,
    owner: Owner,
    number: u64,
    own: Arc<Semaphore>,
}

impl Reserves {
    /// Nothing yet, of at most so many memories of a pool.
    pub(crate) fn new(pool: Arc<Semaphore>, most: u32) -> Self {
        let (granted, is_granted) = watch::channel(0);
        let book = Book { kept: BTreeMap::new(), last: 0, granted };
        let bound = Arc::new(Semaphore::new(most as usize));
        Self { pool, most, bound, book: Arc::new(Mutex::new(book)), granted: is_granted }
    }

    /// Keeps so many memories for a component from now on, or as many as its other generations have kept if that is more.
    pub(crate) fn claim(
        &self,
        graph: &GraphKey,
        component: &ComponentName,
        priority: Priority,
        memories: u32,
    ) -> Claim {
        // A candidate has what its graph has.
        let asked = (!graph.is_candidate).then_some((priority, memories));
        let owner = (graph.base(), component.clone());
        let mut book = lock(&self.book);
        book.last += 1;
        let number = book.last;
        let kept = book.kept.entry(owner.clone()).or_insert_with(|| {
            let (own, (aim, aimed)) = (Arc::new(Semaphore::new(0)), watch::channel(0));
            let pools = [self.bound.clone(), self.pool.clone()];
            tokio::spawn(keep(pools, own.clone(), aimed));
            Kept { claims: BTreeMap::new(), own, aim }
        });
        kept.claims.insert(number, asked);
        let own = kept.own.clone();
        book.deal(self.most);
        Claim { book: self.book.clone(), most: self.most, owner, number, own }
    }

    /// What is granted in all, in memories, as it changes.
    pub(crate) fn granted(&self) -> watch::Receiver<u32> {
        self.granted.clone()
    }
}

impl Claim {
    /// The room that is kept, in memories.
    pub(crate) fn room(&self) -> &Arc<Semaphore> {
        &self.own
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut book = lock(&self.book);
        let Some(kept) = book.kept.get_mut(&self.owner) else { return };
        kept.claims.remove(&self.number);
        if kept.claims.is_empty() {
            book.kept.remove(&self.owner);
        }
        book.deal(self.most);
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    /// Says how much is kept for each.
    fn deal(&self, most: u32) {
        let asked = self.kept.iter().map(|(owner, kept)| {
            let claims = kept.claims.values().flatten();
            let (priorities, memories): (Vec<Priority>, Vec<u32>) = claims.copied().unzip();
            let wanted = memories.into_iter().max().unwrap_or_default();
            (Reverse(priorities.into_iter().max()), owner, wanted, &kept.aim)
        });
        let mut asked: Vec<_> = asked.collect();
        asked.sort_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)));
        let mut left = most;
        for (_, (graph, component), wanted, aim) in asked {
            let granted = wanted.min(left);
            left -= granted;
            let is_new = aim.send_if_modified(|aim| std::mem::replace(aim, granted) != granted);
            if is_new && granted < wanted {
                tracing::warn!(
                    %graph, %component, wanted, granted,
                    "not all that is reserved is kept: what comes first leaves no more of the pool"
                );
            }
        }
        self.granted.send_if_modified(|granted| std::mem::replace(granted, most - left) != most - left);
    }
}

/// Takes as much out of pools as is aimed at, out of each in turn as it becomes free there, for those who have `own`; ends,
/// with nothing taken, once nobody aims.
pub(crate) async fn keep<const POOLS: usize>(
    pools: [Arc<Semaphore>; POOLS],
    own: Arc<Semaphore>,
    mut aimed: watch::Receiver<u32>,
) {
    let mut taken: Option<[OwnedSemaphorePermit; POOLS]> = None;
    let mut is_over = false;
    loop {
        let first = taken.as_ref().and_then(|taken| taken.first());
        let count = first.map_or(0, OwnedSemaphorePermit::num_permits);
        let aim = if is_over { 0 } else { usize::try_from(*aimed.borrow_and_update()).unwrap_or(usize::MAX) };
        if is_over && count == 0 {
            return;
        }
        let at_once = count.abs_diff(aim).min(AT_ONCE_MAX);
        let permits = u32::try_from(at_once).unwrap_or(u32::MAX);
        let more = async {
            let mut more = Vec::with_capacity(POOLS);
            for pool in &pools {
                more.push(pool.clone().acquire_many_owned(permits).await.ok()?);
            }
            <[OwnedSemaphorePermit; POOLS]>::try_from(more).ok()
        };
        tokio::select! {
            biased;
            changed = aimed.changed(), if !is_over => is_over = changed.is_err(),
            more = more, if count < aim => {
                let Some(more) = more else { return };
                match &mut taken {
                    Some(taken) => taken.iter_mut().zip(more).for_each(|(taken, more)| taken.merge(more)),
                    None => taken = Some(more),
                }
                own.add_permits(at_once);
            }
            // As those who have it end.
            less = own.acquire_many(permits), if count > aim => {
                let Ok(less) = less else { return };
                less.forget();
                taken.iter_mut().flatten().for_each(|taken| drop(taken.split(at_once)));
            }
            // With nothing to do, and nobody to say that there is.
            else => return,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    const MEMORIES: usize = 100;

    /// Resolves when so many are free in each.
    async fn until(free: impl Fn() -> Vec<usize>, wanted: &[usize]) {
        let settled = async {
            while free() != wanted {
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), settled).await;
        found.unwrap_or_else(|_| panic!("{:?} are free, not {wanted:?}", free()));
    }

    /// A pool of which three quarters can be kept.
    fn node() -> (Arc<Semaphore>, Reserves) {
        let pool = Arc::new(Semaphore::new(MEMORIES));
        (pool.clone(), Reserves::new(pool, 75))
    }

    fn names() -> (GraphKey, GraphKey, ComponentName) {
        ("shop/a".parse().unwrap(), "shop/b".parse().unwrap(), "app".parse().unwrap())
    }

    #[tokio::test]
    async fn what_is_kept_comes_out_of_the_pool_as_it_becomes_free_and_goes_back_as_it_is_used() {
        let (pool, reserves) = node();
        let (graph, _, app) = names();
        let busy = pool.clone().acquire_many_owned(95).await.unwrap();
        let claim = reserves.claim(&graph, &app, Priority::DEFAULT, 40);
        let own = claim.room().clone();
        let free = || vec![pool.available_permits(), own.available_permits()];
        // Less than is taken at one time.
        until(free, &[0, 0]).await;
        drop(busy);
        until(free, &[60, 40]).await;
        let used = own.clone().acquire_many_owned(30).await.unwrap();
        drop(claim);
        // Given back all at once, as its last instances end.
        until(free, &[60, 0]).await;
        drop(used);
        until(free, &[MEMORIES, 0]).await;
        assert!(lock(&reserves.book).kept.is_empty());
    }

    #[tokio::test]
    async fn generations_share_what_the_larger_has_kept_and_a_candidate_has_that_of_its_graph() {
        let (pool, reserves) = node();
        let (graph, _, app) = names();
        let before = reserves.claim(&graph, &app, Priority::DEFAULT, 40);
        let candidate = reserves.claim(&graph.candidate(), &app, Priority::DEFAULT, 70);
        let own = before.room().clone();
        assert!(Arc::ptr_eq(&own, candidate.room()));
        let free = || vec![pool.available_permits(), own.available_permits()];
        until(free, &[60, 40]).await;
        let after = reserves.claim(&graph, &app, Priority::DEFAULT, 10);
        until(free, &[60, 40]).await;
        drop(before);
        until(free, &[90, 10]).await;
        drop((after, candidate));
        until(free, &[MEMORIES, 0]).await;
    }

    #[tokio::test]
    async fn it_is_taken_before_those_who_come_later() {
        let pool = Arc::new(Semaphore::new(200));
        let reserves = Reserves::new(pool.clone(), 150);
        let (graph, _, app) = names();
        let mut busy = pool.clone().acquire_many_owned(200).await.unwrap();
        let claim = reserves.claim(&graph, &app, Priority::DEFAULT, 100);
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..100).map(|_| tokio::spawn(pool.clone().acquire_many_owned(2))).collect();
        tokio::task::yield_now().await;
        // It waits for two turns, however many wait behind it.
        let mut served = Vec::new();
        for _ in 0..2 {
            drop(busy.split(AT_ONCE_MAX));
            tokio::task::yield_now().await;
        }
        let own = claim.room().clone();
        until(|| vec![own.available_permits()], &[AT_ONCE_MAX]).await;
        drop(busy);
        for other in others {
            served.push(other.await.unwrap().unwrap());
            served.truncate(20);
        }
        drop(served);
        until(|| vec![own.available_permits()], &[100]).await;
    }

    #[tokio::test]
    async fn the_higher_priority_comes_first_and_then_the_name() {
        let (pool, reserves) = node();
        let (a, b, app) = names();
        let first = reserves.claim(&a, &app, Priority::DEFAULT, 50);
        let second = reserves.claim(&b, &app, Priority::DEFAULT, 50);
        let of = [first.room().clone(), second.room().clone()];
        let free = || of.iter().map(|own| own.available_permits()).collect();
        until(free, &[50, 25]).await;
        let higher = reserves.claim(&b, &app, Priority::new(51).unwrap(), 50);
        until(free, &[25, 50]).await;
        drop((higher, second));
        until(free, &[50, 0]).await;
        assert_eq!(pool.available_permits(), 50);
    }
}
