//! Contestants in turn, round after round, so that whatever else the machine does hits all of them alike.

use std::time::{Duration, Instant};

/// Seconds (or whatever was measured), sorted.
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn new(mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort_by(f64::total_cmp);
        Samples(samples)
    }

    /// The sample that `part` (0 to 1) of all samples do not exceed.
    pub fn percentile(&self, part: f64) -> f64 {
        let rank = (part * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    pub fn median(&self) -> f64 {
        self.percentile(0.5)
    }

    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// One contestant's turn: what it measured.
pub type Turn<'a> = &'a mut dyn FnMut() -> f64;

/// Gives each contestant a turn in each round, in the same order, after one round that does not count.
pub fn interleaved<const N: usize>(rounds: usize, contestants: [Turn<'_>; N]) -> [Samples; N] {
    interleaved_with(rounds, Duration::ZERO, contestants)
}

/// The same with a pause before each turn: programs that ask now and then find a machine that sleeps.
pub fn interleaved_with<const N: usize>(
    rounds: usize,
    pause: Duration,
    mut contestants: [Turn<'_>; N],
) -> [Samples; N] {
    let mut samples = [const { Vec::new() }; N];
    for round in 0..=rounds {
        let turns = samples.iter_mut().zip(contestants.iter_mut());
        for (samples, turn) in turns {
            std::thread::sleep(pause);
            let measured = turn();
            if round > 0 {
                samples.push(measured);
            }
        }
    }
    samples.map(Samples::new)
}

/// How long this takes, in seconds.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

/// How long one of `times` operations takes, in seconds.
pub fn per_operation(times: u32, mut operation: impl FnMut()) -> f64 {
    seconds(|| (0..times).for_each(|_| operation())) / f64::from(times)
}
