//! How long to wait before the next attempt.

use std::time::Duration;

use crate::chance;

/// Delays that double up to a limit, each shortened at random by up to half so that many clients do not come at once.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, limit: Duration) -> Self {
        Backoff { first, limit, next: first }
    }

    /// For a server that is away. The limit is what recovery may take after its return.
    pub const fn for_outage() -> Self {
        Backoff::new(Duration::from_millis(200), Duration::from_secs(2))
    }

    /// For a server that is busy, inside one request's deadline.
    pub const fn for_busy() -> Self {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    pub fn delay(&mut self) -> Duration {
        let delay = self.next.mul_f64(0.5 + 0.5 * chance::fraction());
        self.next = (self.next * 2).min(self.limit);
        delay
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_differ() {
        let mut backoff = Backoff::for_outage();
        let delays: Vec<_> = (0..20).map(|_| backoff.delay()).collect();
        assert!(delays[0] >= Duration::from_millis(100) && delays[0] <= Duration::from_millis(200), "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(2)), "{delays:?}");
        assert!(delays[10..].iter().all(|delay| *delay >= Duration::from_secs(1)), "{delays:?}");
        assert!(delays[10..].windows(2).any(|pair| pair[0] != pair[1]), "{delays:?}");
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(200));
    }
}
