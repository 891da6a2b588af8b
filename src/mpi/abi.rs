//! What differs from one kind of MPI library to another: the handles, which are part of a program's
//! binary. Three tables of them, from the libraries' headers.
//!
//! | | library | a handle is |
//! | --- | --- | --- |
//! | the standard's (MPI 5, chapter 20) | `libmpi_abi.so.1` | a pointer of a fixed number |
//! | Open MPI's | `libmpi.so.40` | the address of one of its symbols |
//! | MPICH's and its relatives' | `libmpi.so.12`, `libmpich.so.12` | an int |

use libloading::Library;
use std::ffi::{c_int, c_void};

/// A handle's type: `c_int` or a pointer.
pub(super) trait Handle: Copy + Send + Sync + 'static {
    /// As a number that [`Handle::of`] makes the handle of again.
    fn number(self) -> usize;
    /// The reverse.
    fn of(number: usize) -> Self;
}

impl Handle for c_int {
    fn number(self) -> usize {
        self as u32 as usize
    }
    fn of(number: usize) -> c_int {
        number as u32 as c_int
    }
}

/// An opaque pointer; nothing here looks at what it points to.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Pointer(*mut c_void);

// SAFETY: only the library looks at what a handle points to, and it is told whether threads call.
unsafe impl Send for Pointer {}
// SAFETY: as above; a handle is a name and has no state here.
unsafe impl Sync for Pointer {}

impl Handle for Pointer {
    fn number(self) -> usize {
        self.0 as usize
    }
    fn of(number: usize) -> Pointer {
        Pointer(number as *mut c_void)
    }
}

/// The handles and constants that are used here.
pub(super) struct Table<H> {
    pub world: H,
    pub byte: H,
    pub float: H,
    pub sum: H,
    pub errors_return: H,
    /// MPI_STATUS_IGNORE, an address.
    pub no_status: usize,
    /// MPI_THREAD_SERIALIZED and MPI_THREAD_MULTIPLE.
    pub threads: [c_int; 2],
}

/// The kind of a library, with its table.
pub(super) enum Abi {
    Pointers(Table<Pointer>),
    Numbers(Table<c_int>),
}

/// The standard's: table A.1 and following of its chapter on the ABI.
pub(super) fn standard() -> Abi {
    Abi::Pointers(Table {
        world: Pointer::of(0x101),
        byte: Pointer::of(0x247),
        float: Pointer::of(0x210),
        sum: Pointer::of(0x21),
        errors_return: Pointer::of(0x143),
        no_status: 0,
        threads: [2048, 4096],
    })
}

/// MPICH's, since its version 3.1 (the ABI compatibility initiative with Intel and Cray).
pub(super) fn mpich() -> Abi {
    let of = |number: u32| number as c_int;
    Abi::Numbers(Table {
        world: of(0x4400_0000),
        byte: of(0x4c00_010d),
        float: of(0x4c00_040a),
        sum: of(0x5800_0003),
        errors_return: of(0x5400_0001),
        no_status: 1,
        threads: [2, 3],
    })
}

/// Open MPI's, whose handles are addresses in `library`. None: it has no such symbols.
pub(super) fn open_mpi(library: &Library) -> Option<Abi> {
    let address = |name: &str| {
        // SAFETY: only the symbol's address is used, whatever it is of.
        unsafe { library.get::<*mut c_void>(name.as_bytes()) }.ok().map(|symbol| Pointer(*symbol))
    };
    Some(Abi::Pointers(Table {
        world: address("ompi_mpi_comm_world")?,
        byte: address("ompi_mpi_byte")?,
        float: address("ompi_mpi_float")?,
        sum: address("ompi_mpi_op_sum")?,
        errors_return: address("ompi_mpi_errors_return")?,
        no_status: 0,
        threads: [2, 3],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_being_a_number() {
        for number in [0x4400_0000u32, 0x9800_0001, u32::MAX] {
            let handle = number as c_int;
            assert_eq!(c_int::of(handle.number()), handle);
        }
        assert_eq!(Pointer::of(0x7f00_1234_5678).number(), 0x7f00_1234_5678);
    }
}
