use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{broadcast, watch};

/// Watch events a slow PEP may lag behind before its stream is ended, so that it starts again from the present.
const EVENTS_KEPT: usize = 256;

/// Tells those who wait: PEPs of bundles and revocations, held statements of their approvals.
///
/// It carries hints, not truth: whoever is woken reads the store.
#[derive(Debug)]
pub(crate) struct Hub {
    events: broadcast::Sender<Event>,
    approvals: Mutex<HashMap<String, watch::Sender<()>>>,
}

/// What every PEP must hear at once.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Another bundle is in force.
    Bundle(String),
    /// These sessions have ended.
    Revoked(Arc<[String]>),
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { events: broadcast::Sender::new(EVENTS_KEPT), approvals: Mutex::default() }
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody watching is no fault: a PEP that comes later hears the present state first.
        let _ = self.events.send(event);
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Wakes whoever waits for this approval.
    pub(crate) fn approval_changed(&self, approval_id: &str) {
        let mut approvals = self.lock();
        if let Some(sender) = approvals.get(approval_id) {
            let _ = sender.send(());
        }
        approvals.retain(|_, sender| sender.receiver_count() > 0);
    }

    /// Subscribes to one approval. Subscribe first, then read the store: a change in between is then not missed.
    pub(crate) fn approval(&self, approval_id: &str) -> watch::Receiver<()> {
        let mut approvals = self.lock();
        approvals.retain(|_, sender| sender.receiver_count() > 0);
        approvals.entry(approval_id.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.approvals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Hub;

    #[tokio::test]
    async fn a_change_between_subscribing_and_waiting_is_not_missed() {
        let hub = Hub::new();
        let mut waiting = hub.approval("a");
        hub.approval_changed("a");
        hub.approval_changed("b");
        waiting.changed().await.unwrap();
        drop(waiting);
        let _other = hub.approval("b");
        assert_eq!(hub.lock().len(), 1, "those nobody waits for are forgotten");
    }
}
