//! Power cuts: a program that writes to a member's disk is recorded, and of many moments of the recording the disk is
//! made as a power cut would have left it. The product opens each: everything acknowledged must be there, and nothing
//! that was not written.
//!
//! `WEFT_POWER_CUT_IMAGES` sets how many images are tried (a full run has thousands), `WEFT_POWER_CUT_SEED` repeats a
//! run, and `WEFT_POWER_CUT_REQUIRED` makes it an error that a machine cannot record.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod chance;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod cuts;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod image;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod member;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod recorder;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod workload;

use std::io::Write as _;

/// Says a line that the test harness does not keep for itself when a test passes.
fn say(line: &str) {
    // There is nowhere else to say that standard error is closed.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[test]
fn power_cuts() {
    say("SKIPPED: power cuts: processes are recorded on Linux on x86-64 only");
    assert!(std::env::var_os("WEFT_POWER_CUT_REQUIRED").is_none(), "required here");
}
