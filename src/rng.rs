//! Counter-based randomness: a draw is a pure function of (seed, stream, step, index).
//!
//! No generator state exists anywhere, so resuming, thread counts and the order of work cannot change a draw.
//! `shaders/common/rng.wgsl` holds the same function; a test compares the two bit for bit.
//! The mixing function is `pcg4d` of Jarzynski and Olano, "Hash Functions for GPU Rendering" (2020).

/// Purposes of randomness. Each has its own stream, so that adding draws to one never shifts another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Initial values of parameters.
    Init = 1,
    /// Order of the samples in an epoch.
    Shuffle = 2,
    /// Crops, flips and colour jitter.
    Augment = 3,
    /// Masks of patches.
    Mask = 4,
    /// Gumbel noise of the tokenizer's relaxation.
    Gumbel = 5,
    /// Stochastic depth.
    DropPath = 6,
    /// The built-in scene generator.
    Scene = 7,
    /// Test data.
    Test = 8,
    /// Sampling of predicted tokens.
    Sample = 9,
    /// Codes of a codebook that start, or start anew.
    Codes = 10,
}

/// Mixes four words into four words (bijective).
#[inline(always)]
pub fn pcg4d(v: [u32; 4]) -> [u32; 4] {
    let lcg = |x: u32| x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let [mut x, mut y, mut z, mut w] = v.map(lcg);
    for round in 0..2 {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        if round == 0 {
            [x, y, z, w] = [x ^ (x >> 16), y ^ (y >> 16), z ^ (z >> 16), w ^ (w >> 16)];
        }
    }
    [x, y, z, w]
}

/// The words that select a (seed, stream, step); kernels receive them as a four-word input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u32; 4]);

impl Key {
    /// The key of `stream` at `step` under `seed`.
    pub fn new(seed: u64, stream: Stream, step: u32) -> Self {
        Key(pcg4d([seed as u32, (seed >> 32) as u32, stream as u32, step]))
    }
    /// A key derived from this one, e.g. one per sample or per layer.
    pub fn child(self, index: u32) -> Self {
        Key(pcg4d([self.0[0] ^ 0x9e37_79b9, self.0[1], self.0[2], index]))
    }
    /// Four random words at `index`.
    #[inline(always)]
    pub fn words(self, index: u32) -> [u32; 4] {
        pcg4d([self.0[0], self.0[1], self.0[2], self.0[3].wrapping_add(index)])
    }
    /// A uniform number in the open interval (0, 1), from the top 23 bits, exact in f32.
    #[inline(always)]
    pub fn uniform(self, index: u32) -> f32 {
        open_unit(self.words(index)[0])
    }
    /// A standard normal number (Box–Muller on two words).
    pub fn normal(self, index: u32) -> f32 {
        let w = self.words(index);
        let radius = (-2.0 * f64::from(open_unit(w[0])).ln()).sqrt();
        (radius * (std::f64::consts::TAU * f64::from(open_unit(w[1]))).cos()) as f32
    }
    /// A stream of draws that consumes as many as it needs, for rejection loops.
    pub fn draws(self) -> Draws {
        Draws { key: self, next: 0 }
    }
}

/// `(2k+1)/2^24` for the top 23 bits `k`: never 0, never 1, exact in f32.
#[inline(always)]
fn open_unit(word: u32) -> f32 {
    (2 * (word >> 9) + 1) as f32 * (1.0 / 16_777_216.0)
}

/// Consecutive draws under one [`Key`]; it only counts, it holds no generator state.
#[derive(Debug, Clone)]
pub struct Draws {
    key: Key,
    next: u32,
}

impl Draws {
    /// The next random word.
    pub fn word(&mut self) -> u32 {
        let w = self.key.words(self.next)[0];
        self.next = self.next.wrapping_add(1);
        w
    }
    /// Uniform in (0, 1).
    pub fn unit(&mut self) -> f64 {
        f64::from(open_unit(self.word()))
    }
    /// Uniform in (low, high); the ends may come in either order.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
    /// Uniform integer in `0..n` (multiply-shift; `n` must not be 0, and 0 gives 0).
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }
    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }
    /// Standard normal (Box–Muller on two draws).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_is_open_and_flat() {
        let key = Key::new(7, Stream::Test, 3);
        let n = 100_000;
        let mut histogram = [0u32; 16];
        for i in 0..n {
            let u = key.uniform(i);
            assert!(u > 0.0 && u < 1.0);
            histogram[(u * 16.0) as usize] += 1;
        }
        let expected = f64::from(n) / 16.0;
        let chi2: f64 = histogram.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        assert!(chi2 < 45.0, "chi-square of 15 degrees of freedom: {chi2}");
    }

    #[test]
    fn streams_and_steps_differ() {
        let a = Key::new(1, Stream::Mask, 0).words(0);
        assert_ne!(a, Key::new(1, Stream::Augment, 0).words(0));
        assert_ne!(a, Key::new(1, Stream::Mask, 1).words(0));
        assert_ne!(a, Key::new(2, Stream::Mask, 0).words(0));
        assert_ne!(a, Key::new(1 << 32 | 1, Stream::Mask, 0).words(0));
    }

    #[test]
    fn normal_has_unit_variance() {
        let key = Key::new(5, Stream::Test, 0);
        let (mut sum, mut square) = (0.0f64, 0.0f64);
        for i in 0..50_000 {
            let z = f64::from(key.normal(i));
            sum += z;
            square += z * z;
        }
        assert!((sum / 5e4).abs() < 0.02 && (square / 5e4 - 1.0).abs() < 0.03);
    }
}
