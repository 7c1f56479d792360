//! What a statement may do, and for how long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// How many steps of SQLite's machine pass between two looks at the clock: well under a millisecond.
const STEPS_BETWEEN_LOOKS: i32 = 1_000;

/// Pragmas that read, and two that dumps begin with. All others could reach the disk, other connections, or the
/// bounds set here.
const PRAGMAS: &[&str] = &[
    "application_id",
    "collation_list",
    "compile_options",
    "data_version",
    "defer_foreign_keys",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "page_count",
    "page_size",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// What the hooks of one connection look at.
#[derive(Default)]
pub(crate) struct Watch {
    until: Mutex<Option<(Instant, Arc<AtomicBool>)>>,
    tainted: AtomicBool,
}

impl Watch {
    /// A statement begins; it must end by `deadline`, or when `cancelled` is set.
    pub(crate) fn begin(&self, deadline: Instant, cancelled: Arc<AtomicBool>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some((deadline, cancelled));
    }

    /// The statement has ended.
    pub(crate) fn end(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_over(&self) -> bool {
        match &*self.until.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((deadline, cancelled)) => cancelled.load(Ordering::Relaxed) || Instant::now() >= *deadline,
            None => false,
        }
    }

    /// Whether a statement changed what stays with the connection.
    pub(crate) fn is_tainted(&self) -> bool {
        self.tainted.load(Ordering::Relaxed)
    }

    fn judge(&self, context: &AuthContext<'_>) -> Authorization {
        match context.action {
            AuthAction::Attach { .. } | AuthAction::Detach { .. } | AuthAction::Unknown { .. } => {
                Authorization::Deny
            }
            AuthAction::Function { function_name } if function_name.eq_ignore_ascii_case("load_extension") => {
                Authorization::Deny
            }
            AuthAction::Pragma { pragma_name, pragma_value } => {
                if !PRAGMAS.iter().any(|name| name.eq_ignore_ascii_case(pragma_name)) {
                    return Authorization::Deny;
                }
                if pragma_value.is_some() {
                    self.tainted.store(true, Ordering::Relaxed);
                }
                Authorization::Allow
            }
            AuthAction::CreateTempIndex { .. }
            | AuthAction::CreateTempTable { .. }
            | AuthAction::CreateTempTrigger { .. }
            | AuthAction::CreateTempView { .. } => {
                self.tainted.store(true, Ordering::Relaxed);
                Authorization::Allow
            }
            _ => Authorization::Allow,
        }
    }
}

/// Sets the hooks of a connection.
pub(crate) fn impose(connection: &mut Connection, watch: &Arc<Watch>) -> rusqlite::Result<()> {
    let judge = watch.clone();
    connection.authorizer(Some(move |context: AuthContext<'_>| judge.judge(&context)))?;
    let clock = watch.clone();
    connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(move || clock.is_over()))
}

/// Takes the rules away, for the agent's own use of a connection that no guest gets.
pub(crate) fn lift(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
}
