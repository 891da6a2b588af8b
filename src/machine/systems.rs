//! The memory of systems that do not tell it in files, as Linux does: bytes that are free, and bytes
//! in all.

/// What processes may be promised still: memory and page file. Windows promises no more than there
/// is, and counts what is taken before it is touched.
#[cfg(windows)]
pub fn supply() -> Option<(u64, u64)> {
    /// `MEMORYSTATUSEX` of `sysinfoapi.h`.
    #[derive(Default)]
    #[repr(C)]
    struct Status {
        length: u32,
        load: u32,
        total_physical: u64,
        free_physical: u64,
        total_promised: u64,
        free_promised: u64,
        total_virtual: u64,
        free_virtual: u64,
        free_extended: u64,
    }
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GlobalMemoryStatusEx(status: *mut Status) -> i32;
    }
    let mut status = Status { length: size_of::<Status>() as u32, ..Status::default() };
    // SAFETY: the call writes to a structure of the size that is said in it.
    let known = unsafe { GlobalMemoryStatusEx(&mut status) } != 0;
    known.then_some((status.free_promised, status.total_promised))
}

/// All of the machine's: how much of that is free changes with what macOS compresses and swaps out,
/// and is not asked.
#[cfg(target_os = "macos")]
pub fn supply() -> Option<(u64, u64)> {
    let mut bytes = 0u64;
    let mut size = size_of::<u64>();
    // SAFETY: the name ends with a zero, and the call writes `size` bytes at most.
    let error = unsafe {
        libc::sysctlbyname(
            c"hw.memsize".as_ptr(),
            (&raw mut bytes).cast(),
            &mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    let known = error == 0 && size == size_of::<u64>();
    known.then_some((bytes, bytes))
}

/// Elsewhere nothing more is known than files say.
#[cfg(not(any(windows, target_os = "macos")))]
pub fn supply() -> Option<(u64, u64)> {
    None
}
