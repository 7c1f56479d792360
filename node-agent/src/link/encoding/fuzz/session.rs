//! A session whose ids tell what they were made of.

use wasmtime::component::{ResourceAny, ResourceDynamic};
use wasmtime::{Engine, Store};

use super::super::{HandleError, Handles, Kind};

/// The handles of a session that never gives one up.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(in super::super) handles: Vec<ResourceAny>,
}

impl Session {
    pub(crate) fn new() -> Self {
        let mut store = Store::new(&Engine::default(), ());
        let handles = (0..4)
            .map(|rep| ResourceDynamic::new_own(rep, 0).try_into_resource_any(&mut store).unwrap())
            .collect();
        Self { handles }
    }
}

impl Handles for Session {
    fn lower(&mut self, resource: Kind, handle: &ResourceAny, owned: bool) -> Result<u64, HandleError> {
        let index = self.handles.iter().position(|known| known == handle);
        let index = index.ok_or(HandleError::Store { message: "not of this test".to_owned() })?;
        Ok((index << 8) as u64 | kind(resource, owned))
    }

    fn lift(&mut self, resource: Kind, id: u64, owned: bool) -> Result<ResourceAny, HandleError> {
        let is_of = (id & 0xff) == kind(resource, owned);
        let handle = self.handles.get((id >> 8) as usize).filter(|_| is_of);
        handle.copied().ok_or(HandleError::Unknown { id })
    }
}

fn kind(resource: Kind, owned: bool) -> u64 {
    let resource = match resource {
        Kind::Provider(index) => index,
        Kind::Host(resource) => 100 + resource as usize,
    };
    ((resource << 1) | usize::from(owned)) as u64
}
