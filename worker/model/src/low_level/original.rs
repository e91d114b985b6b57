//! Letting go of weights that have been packed.
use candle_core::quantized::QuantizedType;
use std::{
    ffi::c_void,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Quantised weights that can be let go when the tensor library has made a packed copy of them.
///
/// The library keeps the original beside the packed copy and offers no way to drop it. This tells
/// whether it ever computed with the original, and gives the original's pages back to the system if
/// it did not.
pub(crate) struct Original {
    original: Box<dyn QuantizedType>,
    /// Whether the original was computed with.
    used: AtomicBool,
    released: AtomicBool,
}

impl Original {
    /// Takes over weights as they are in a file.
    pub(crate) fn new(original: Box<dyn QuantizedType>) -> Original {
        Original { original, used: AtomicBool::new(false), released: AtomicBool::new(false) }
    }

    /// Gives the original back, unless it was ever computed with. To be called when all paths of a
    /// computation have been gone.
    pub(crate) fn release_if_packed(&self) {
        if self.used.load(Relaxed) || self.released.swap(true, Relaxed) {
            return;
        }
        // SAFETY: `sysconf` has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let Ok(page @ 1..) = usize::try_from(page) else { return };
        let start = self.original.as_ptr();
        let first = start.addr().next_multiple_of(page);
        let end = (start.addr() + self.original.storage_size_in_bytes()) / page * page;
        if first < end {
            let pages = start.with_addr(first).cast_mut().cast::<c_void>();
            // SAFETY: the pages lie within an allocation that `original` owns and nothing else
            // uses. They are zeros afterwards, which are valid blocks, and `released` keeps
            // everybody from computing with them. If it fails, the memory stays.
            let _kept = unsafe { libc::madvise(pages, end - first, libc::MADV_DONTNEED) };
        }
    }

    /// The original, for computing.
    pub(crate) fn original(&self) -> candle_core::Result<&dyn QuantizedType> {
        if self.released.load(Relaxed) {
            return Err(candle_core::Error::Msg("weights are needed in a form that was let go".to_owned()));
        }
        self.used.store(true, Relaxed);
        Ok(self.original.as_ref())
    }

    /// The bytes of the original, as the file has them.
    pub(crate) fn bytes(&self) -> candle_core::Result<&[u8]> {
        let original = self.original()?;
        // SAFETY: `original` owns so many bytes there, which live as long as it does and do not
        // change: they are not released, because `used` is set by now.
        Ok(unsafe { std::slice::from_raw_parts(original.as_ptr(), original.storage_size_in_bytes()) })
    }

    /// What the tensor library asks of weights without computing with them.
    pub(crate) fn description(&self) -> &dyn QuantizedType {
        self.original.as_ref()
    }
}
