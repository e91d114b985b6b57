//! Many measurements of one thing.

/// Measurements in ascending order.
#[derive(Debug)]
pub(crate) struct Sample<T>(Vec<T>);

impl<T: Copy + PartialOrd> Sample<T> {
    /// Sorts the measurements; `None` if there are none.
    pub(crate) fn new(mut measured: Vec<T>) -> Option<Sample<T>> {
        measured.sort_unstable_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
        (!measured.is_empty()).then_some(Sample(measured))
    }

    /// The least measurement that `percent` of them do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> T {
        let rank = (self.0.len() * percent).div_ceil(100).clamp(1, self.0.len());
        self.0[rank - 1]
    }

    /// The one in the middle.
    pub(crate) fn median(&self) -> T {
        self.percentile(50)
    }

    /// The least and the greatest.
    pub(crate) fn range(&self) -> (T, T) {
        (self.percentile(0), self.percentile(100))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measurements() {
        let sample = Sample::new((1..=200).rev().collect()).unwrap();
        assert_eq!((sample.median(), sample.percentile(99), sample.range(), sample.count()), (100, 198, (1, 200), 200));
        let one = Sample::new(vec![7]).unwrap();
        assert_eq!((one.median(), one.percentile(99), one.range()), (7, 7, (7, 7)));
        assert!(Sample::<u8>::new(Vec::new()).is_none());
    }
}
