//! The deadline of a call as its client gives it: a layer that keeps it, and refuses one that is none.
//!
//! tonic passes over a deadline that it cannot read, and answers one that has passed with `CANCELLED`. It counts from a
//! little later than this layer, so that this one is the first to say so.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use proto::status::refuse;
use tonic::{Code, Status};
use tower::{Layer, Service};

const HEADER: &str = "grpc-timeout";
/// As gRPC has it.
const DIGITS_MAX: usize = 8;

/// What a client has left of the time for a call; none if it gives no deadline.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let read = || {
        let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
        let is_number =
            (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let count: u64 = digits.parse().ok().filter(|_| is_number)?;
        Some(match unit {
            "H" => Duration::from_secs(count * 3_600),
            "M" => Duration::from_secs(count * 60),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    };
    let wrong = || {
        let message =
            format!("{HEADER}: up to {DIGITS_MAX} digits and one of H, M, S, m, u and n were expected");
        refuse(Code::InvalidArgument, "malformed", message)
    };
    read().map(Some).ok_or_else(wrong)
}

fn late() -> Status {
    refuse(Code::DeadlineExceeded, "deadline_passed", "the time that the client gives has passed")
}

/// The layer.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed { inner }
    }
}

/// A service whose calls end at their deadlines.
#[derive(Debug, Clone)]
pub struct Timed<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Timed<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match deadline(request.headers()) {
            Ok(None) => Box::pin(self.inner.call(request)),
            Ok(Some(Duration::ZERO)) => Box::pin(async { Ok(late().into_http()) }),
            Ok(Some(left)) => {
                let call = tokio::time::timeout(left, self.inner.call(request));
                Box::pin(async { call.await.unwrap_or_else(|_| Ok(late().into_http())) })
            }
            Err(status) => Box::pin(async { Ok(status.into_http()) }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// What a call with such a deadline comes to that is answered at a moment.
    async fn called(deadline: &str, moment: Duration) -> Status {
        let slow = tower::service_fn(move |_: Request<()>| async move {
            tokio::time::sleep(moment).await;
            Ok::<_, Infallible>(Status::ok("").into_http::<()>())
        });
        let request = Request::builder().header(HEADER, deadline).body(()).unwrap();
        let answer = Deadlines.layer(slow).call(request).await.unwrap();
        Status::from_header_map(answer.headers()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline() {
        for (deadline, moment, expected) in [
            ("50m", 51, Code::DeadlineExceeded),
            ("50000u", 51, Code::DeadlineExceeded),
            ("1S", 999, Code::Ok),
            ("1S", 1_001, Code::DeadlineExceeded),
            ("1M", 59_999, Code::Ok),
            ("99999999H", 1_000_000_000, Code::Ok),
        ] {
            let status = called(deadline, Duration::from_millis(moment)).await;
            assert_eq!(status.code(), expected, "{deadline}: {status:?}");
            let reason = proto::status::reason(&status);
            assert_eq!(reason.as_deref(), (expected != Code::Ok).then_some("deadline_passed"));
        }
    }
}
