//! What Debian has of the tools that guests and tests need.

use std::path::Path;
use std::process::Command;

use crate::command;

/// Best effort: where it does not work, the caller says what to install.
pub fn install(packages: &[&str]) {
    if !Path::new("/usr/bin/apt-get").exists() {
        return;
    }
    command::say(&format!("installing {}", packages.join(" ")));
    for arguments in [&["update", "-q"][..], &[&["install", "-qy"], packages].concat()] {
        let status = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
        if !status.is_ok_and(|status| status.success()) {
            return;
        }
    }
}
