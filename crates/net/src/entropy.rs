//! Entropy: 32 bytes from the operating system, the seed of every generator in
//! the program. Machines never draw randomness themselves; they are built with
//! a seed from here, so a test can build them with a known one.
#![expect(unsafe_code, reason = "getrandom(2) has no safe wrapper in std")]

use std::io;

/// A fresh seed by getrandom(2), which waits until the kernel's pool has been
/// initialised once after boot. Fails only where the system call is forbidden.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        let rest = &mut seed[filled..];
        // SAFETY: pointer and length describe `rest`, which outlives the call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        let (one, two) = (super::seed().unwrap(), super::seed().unwrap());
        assert_ne!(one, two);
        assert_ne!(one, [0; 32]);
    }
}
