//! Memory that several tasks write to at the same time, each in places of its own.

use std::marker::PhantomData;

/// Values that tasks share.
pub struct Shared<'a>(Part<'a>);

// SAFETY: it gives values away only to who vouches that nobody else uses them.
unsafe impl Sync for Shared<'_> {}

/// The values as one of the tasks holds them: it may use places of its own, which do not lie in one
/// piece.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    at: *mut f32,
    len: usize,
    of: PhantomData<&'a mut [f32]>,
}

impl<'a> Shared<'a> {
    /// These, which nobody else uses meanwhile.
    pub fn new(values: &'a mut [f32]) -> Shared<'a> {
        Shared(Part::whole(values))
    }

    /// # Safety
    /// Who takes it uses no place that another part's holder uses.
    pub unsafe fn part(&self) -> Part<'_> {
        self.0
    }
}

impl<'a> Part<'a> {
    /// All of it.
    pub fn whole(values: &'a mut [f32]) -> Part<'a> {
        Part { at: values.as_mut_ptr(), len: values.len(), of: PhantomData }
    }
    /// What follows the first `values`.
    pub fn after(self, values: usize) -> Part<'a> {
        assert!(values <= self.len);
        // SAFETY: it ends where this one does.
        Part { at: unsafe { self.at.add(values) }, len: self.len - values, of: PhantomData }
    }
    /// The first value.
    pub fn at(&self) -> *mut f32 {
        self.at
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }
}
