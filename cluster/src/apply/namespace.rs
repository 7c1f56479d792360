//! Namespaces: what their graphs may use together.

use crate::command::SetQuota;
use crate::outcome::{Outcome, Refusal};
use crate::state::{NAMESPACES_MAX, NamespaceRecord, State};

/// A quota may be less than what is used: it stops what grows, and takes nothing away.
pub(super) fn set_quota(state: &mut State, set: &SetQuota) -> Result<Outcome, Refusal> {
    let SetQuota { namespace, quota } = set;
    let known = state.namespaces.get(namespace).map(|record| record.quota);
    if known.unwrap_or_default() == *quota {
        return Ok(state.done());
    }
    if known.is_none() && state.namespaces.len() >= NAMESPACES_MAX {
        let what = "namespaces with a quota".to_owned();
        return Err(Refusal::Exhausted { what, bound: NAMESPACES_MAX as u64 });
    }
    state.advance();
    if quota.is_none() {
        state.namespaces.remove(namespace);
    } else {
        let record = NamespaceRecord { quota: *quota, changed_at_ms: state.now_ms };
        state.namespaces.insert(namespace.clone(), record);
    }
    let message = match quota.is_none() {
        true => "its graphs may use what they ask for".to_owned(),
        false => format!("its graphs may use no more than: {quota}"),
    };
    state.event(format!("namespace/{namespace}"), "quota_set", message);
    Ok(state.done())
}
