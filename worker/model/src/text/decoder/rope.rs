//! Rotary position embedding (Su et al. 2021, "RoFormer"), with the ways in which model families
//! pair and scale the angles.

/// Which two numbers of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pairs {
    /// Neighbours: Llama as GGUF files have it.
    Neighbours,
    /// One of the first half with one of the second, as GPT-NeoX does.
    Halves,
}

/// How positions become angles.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    /// Which numbers belong together.
    pub(super) pairs: Pairs,
    /// The angle of each pair at position 1.
    frequencies: Vec<f64>,
    /// What sines and cosines are multiplied with.
    magnitude: f32,
}

impl Rope {
    /// Angles for `dimensions` numbers of each head. `factors` divide the angles pair by pair,
    /// `scale` all of them; `magnitude` makes the turned numbers larger.
    pub(super) fn new(
        pairs: Pairs,
        dimensions: usize,
        base: f64,
        scale: f64,
        factors: Option<&[f32]>,
        magnitude: f32,
    ) -> Rope {
        let frequency = |pair: usize| {
            let factor = factors.and_then(|factors| factors.get(pair)).map_or(1.0, |factor| f64::from(*factor));
            base.powf(-2.0 * pair as f64 / dimensions as f64) / (scale * factor)
        };
        Rope { pairs, frequencies: (0..dimensions / 2).map(frequency).collect(), magnitude }
    }

    /// The cosine and sine of each pair's angle, for `count` positions from `first` on.
    pub(super) fn angles(&self, first: usize, count: usize) -> Vec<(f32, f32)> {
        let at = |position: usize| {
            self.frequencies.iter().map(move |frequency| {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                (cosine as f32 * self.magnitude, sine as f32 * self.magnitude)
            })
        };
        (first..first + count).flat_map(at).collect()
    }

    /// How many pairs are turned.
    pub(super) fn pair_count(&self) -> usize {
        self.frequencies.len()
    }

    /// Turns the numbers of one head by the angles of one position.
    pub(super) fn turn(&self, head: &mut [f32], angles: &[(f32, f32)]) {
        let pairs = self.frequencies.len();
        for (index, (cosine, sine)) in angles.iter().enumerate() {
            let (a, b) = match self.pairs {
                Pairs::Neighbours => (2 * index, 2 * index + 1),
                Pairs::Halves => (index, index + pairs),
            };
            let (x, y) = (head[a], head[b]);
            head[a] = x * cosine - y * sine;
            head[b] = x * sine + y * cosine;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_turned_by_their_angle() {
        let halves = Rope::new(Pairs::Halves, 4, 100.0, 2.0, Some(&[1.0, 0.5]), 1.0);
        let angles = halves.angles(6, 1);
        // 6 / 2 and 6 / 10 / 2 / 0.5.
        for (found, right) in angles.iter().zip([3.0_f32, 0.6]) {
            assert!((found.0 - right.cos()).abs() < 1e-6 && (found.1 - right.sin()).abs() < 1e-6);
        }
        let mut head = [1.0, 0.0, 0.0, 1.0, 7.0];
        halves.turn(&mut head, &[(0.0, 1.0), (1.0, 0.0)]);
        assert_eq!(head, [0.0, 0.0, 1.0, 1.0, 7.0]);
        let mut head = [1.0, 2.0, 3.0, 4.0];
        Rope { pairs: Pairs::Neighbours, ..halves }.turn(&mut head, &[(0.0, 1.0), (1.0, 0.0)]);
        assert_eq!(head, [-2.0, 1.0, 3.0, 4.0]);
    }
}
