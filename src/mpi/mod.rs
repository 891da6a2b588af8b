//! Several processes that train or evaluate one network: ranks, as MPI calls them.
//!
//! `mpirun -n 4 alexnet train …` starts the same command four times. Whether a launcher has done so
//! is read from the environment ([`mod@launcher`]); only then, or with `train --mpi`, the launcher's
//! MPI library is looked for (`find`) and loaded at run time (`library`). Nothing of MPI is needed to
//! build the program. The library is one of three kinds, which differ in what their handles are:
//! `abi` has a table for each.
//!
//! What ranks do together is done through a [`Team`]: rounds, in which every rank says something to
//! rank 0 and hears its answer, sums of gradients, which may be under way while others are still
//! computed (`travel`), and numbers of which each rank has a share (`gather`). Every wait has a bound and says for whom it waits (`link`); a thread
//! watches over the ranks of the same machine (`watch`), so that one that was killed ends the
//! others. There is no transport here but the library's.

mod abi;
mod find;
mod gather;
mod join;
mod launcher;
mod library;
mod link;
mod member;
mod rounds;
mod team;
mod travel;
mod watch;

pub use join::{join, refuse};
pub use launcher::{Kind, Launcher, launcher};
pub use member::Member;
pub use team::Team;
pub use travel::{SMALL, TRANSFER, Travelling};
