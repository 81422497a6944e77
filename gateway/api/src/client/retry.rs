//! How often and how fast to try again.
//!
//! It never tries again what cannot succeed: the error says so.

use std::time::Duration;

use super::ClientError;

/// Attempts and the waits between them: doubling from `first_wait` to `longest_wait`, less up to half at random, so
/// that many clients that failed together do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one gateway, the first included.
    pub attempts: u32,
    /// Wait after the first failure.
    pub first_wait: Duration,
    /// No wait is longer, not even one that a gateway asks for.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// One try.
    pub const fn none() -> Self {
        Self {
            attempts: 1,
            first_wait: Duration::ZERO,
            longest_wait: Duration::ZERO,
        }
    }

    pub(super) async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut failures = 0;
        loop {
            match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    failures += 1;
                    if failures >= self.attempts || !error.passes() {
                        return Err(error);
                    }
                    tokio::time::sleep(self.wait(failures, error.asked_wait(), rand::random())).await;
                }
            }
        }
    }

    /// The wait after so many failures; `chance` is any number.
    fn wait(&self, failures: u32, asked: Option<Duration>, chance: u32) -> Duration {
        if let Some(asked) = asked {
            return asked.min(self.longest_wait);
        }
        let doubled = self
            .first_wait
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let full = doubled.min(self.longest_wait);
        let half = full / 2;
        half + half.mul_f64(1.0 - f64::from(chance) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_never_vanish() {
        let policy = RetryPolicy::default();
        let millis = |failures, chance| policy.wait(failures, None, chance).as_millis();
        assert_eq!((millis(1, 0), millis(2, 0), millis(3, 0)), (200, 400, 800));
        assert_eq!(
            (millis(1, u32::MAX), millis(40, 0), millis(40, u32::MAX)),
            (100, 5000, 2500)
        );
        let asked = |seconds| policy.wait(1, Some(Duration::from_secs(seconds)), 0).as_secs();
        assert_eq!((asked(2), asked(3600)), (2, 5), "a gateway's wish is capped");
    }
}
