//! Nodes and what people call them.

use std::slice;

use crate::graph::{Graph, Identity};
use crate::labels::{Labels, Thing};

impl Graph {
    /// Gives each node its label.
    pub(crate) fn label(&mut self, labels: &Labels) {
        if labels.is_empty() {
            return;
        }
        let owned = self.owned(|_| true);
        for node in &mut self.nodes {
            let place = node.identity.place();
            let addresses = match &node.identity {
                Identity::Peer { address, .. } => slice::from_ref(address),
                _ => place.and_then(|place| owned.get(place)).map_or(&[][..], Vec::as_slice),
            };
            let process = node.identity.process();
            let host = place.and_then(|place| self.hosts.get(&place.host));
            let label = labels.of(&Thing {
                host: host.map(|host| (&*host.name, &*host.id)),
                addresses,
                unit: process.and_then(|process| process.unit.as_deref()),
                container: process.and_then(|process| process.container.as_deref()),
                process: process.map(|process| &*process.name),
            });
            node.label = label;
        }
    }
}
