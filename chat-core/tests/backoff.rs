//! Backoff: bounds, spread, and the thousand clients that lost one server.

use core::time::Duration;

use chat_core::Backoff;

const BASE: Duration = Duration::from_secs(4);
const CAP: Duration = Duration::from_mins(1);

/// `SplitMix64`: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The longest wait before each of the first attempts.
fn ceilings(base: Duration, cap: Duration, attempts: usize) -> Vec<Duration> {
    let mut backoff = Backoff::new(base, cap);
    (0..attempts)
        .map(|_| backoff.next_delay(u64::MAX))
        .collect()
}

#[test]
fn the_ceiling_doubles_up_to_the_cap() {
    let seconds: Vec<u64> = ceilings(BASE, CAP, 8)
        .iter()
        .map(Duration::as_secs)
        .collect();
    assert_eq!(seconds, [4, 8, 16, 32, 60, 60, 60, 60]);
    let odd = ceilings(Duration::from_millis(100), Duration::from_millis(350), 4);
    let odd: Vec<u128> = odd.iter().map(Duration::as_millis).collect();
    assert_eq!(odd, [100, 200, 350, 350]);
}

#[test]
fn the_cap_is_kept_to_for_ever() {
    let ceilings = ceilings(Duration::from_micros(1), CAP, 200);
    assert!(ceilings.is_sorted());
    assert_eq!(ceilings[25], Duration::from_micros(1 << 25));
    assert_eq!(ceilings[26..], [CAP; 174]);
}

#[test]
fn a_base_above_the_cap_is_the_cap() {
    assert_eq!(ceilings(CAP, BASE, 3), [BASE; 3]);
}

#[test]
fn extreme_settings_are_kept_to() {
    assert_eq!(ceilings(Duration::ZERO, CAP, 100), [Duration::ZERO; 100]);
    assert_eq!(ceilings(BASE, Duration::ZERO, 100), [Duration::ZERO; 100]);
    // Above 584 years a wait is 584 years.
    let longest = Duration::from_nanos(u64::MAX);
    assert_eq!(ceilings(Duration::MAX, Duration::MAX, 100), [longest; 100]);
}

#[test]
fn the_whole_range_below_the_ceiling_is_used() {
    let delays = |random: u64| {
        let mut backoff = Backoff::default();
        [(); 6].map(|()| backoff.next_delay(random))
    };
    assert_eq!(delays(0), [Duration::ZERO; 6]);
    assert_eq!(
        delays(u64::MAX),
        [4, 8, 16, 32, 60, 60].map(Duration::from_secs)
    );
    assert_eq!(
        delays(u64::MAX / 2),
        [2, 4, 8, 16, 30, 30].map(Duration::from_secs)
    );
    assert_eq!(
        delays(u64::MAX / 4),
        [1, 2, 4, 8, 15, 15].map(Duration::from_secs)
    );
}

#[test]
fn no_delay_leaves_its_bounds_and_their_mean_is_half() {
    let mut random = Random(1);
    let ceilings = ceilings(BASE, CAP, 8);
    let mut sums = [Duration::ZERO; 8];
    for _ in 0..10_000 {
        let mut backoff = Backoff::default();
        for (sum, ceiling) in sums.iter_mut().zip(&ceilings) {
            let delay = backoff.next_delay(random.next());
            assert!(delay <= *ceiling, "{delay:?} of {ceiling:?}");
            *sum += delay;
        }
    }
    for (sum, ceiling) in sums.iter().zip(ceilings) {
        let mean = (*sum / 10_000).div_duration_f64(ceiling);
        assert!((0.48..0.52).contains(&mean), "{mean} of {ceiling:?}");
    }
}

#[test]
fn a_reset_starts_over() {
    let mut backoff = Backoff::default();
    for _ in 0..10 {
        backoff.next_delay(u64::MAX);
    }
    assert_eq!(backoff.next_delay(u64::MAX), CAP);
    backoff.reset();
    assert_eq!(backoff, Backoff::default());
    assert_eq!(backoff.next_delay(u64::MAX), BASE);
}

/// The largest share of these attempts in any window of 100 ms.
fn busiest_window(mut attempts: Vec<Duration>) -> f64 {
    const WINDOW: Duration = Duration::from_millis(100);
    attempts.sort_unstable();
    let in_window_from = |first: usize| {
        let end = attempts[first] + WINDOW;
        attempts[first..].partition_point(|attempt| *attempt < end)
    };
    let most = (0..attempts.len()).map(in_window_from).max();
    let count = |n: usize| f64::from(u32::try_from(n).expect("few"));
    count(most.unwrap_or(0)) / count(attempts.len())
}

#[test]
fn a_thousand_clients_of_one_server_come_back_spread_out() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let retries: Vec<Duration> = (0..1_000)
            .map(|_| Backoff::default().next_delay(random.next()))
            .collect();
        let share = busiest_window(retries);
        assert!(share <= 0.05, "seed {seed}: {share} within 100 ms");
    }
}

#[test]
fn the_measure_of_a_crowd_finds_one() {
    assert!(busiest_window(vec![Duration::ZERO; 10]) > 0.99);
    let spread = (0..100).map(|n| Duration::from_millis(50 * n)).collect();
    let share = busiest_window(spread);
    assert!((0.019..0.021).contains(&share), "{share}");
}
