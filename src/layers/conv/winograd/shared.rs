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
    /// The first value.
    pub fn at(&self) -> *mut f32 {
        self.at
    }
    pub fn len(&self) -> usize {
        self.len
    }
}

/// The numbers of some tiles among those of a product's operand.
#[derive(Clone, Copy)]
pub struct Among {
    pub first: usize,
    pub all: usize,
}
