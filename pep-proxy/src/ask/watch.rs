//! What must be heard at once: another bundle, a revoked session.

use std::{sync::Arc, time::Duration};

use icegate_proto::v1::watch_response::Event;
use tracing::{info, warn};

use crate::proxy::Proxy;

/// First and longest pause before the watch is opened again.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the first watch waits for the journal of an earlier start: longer than the pause between two deliveries.
const JOURNAL_FIRST: Duration = Duration::from_secs(10);

/// Keeps the watch open. Never returns.
///
/// What happened while it was closed is made good by [`Proxy::doubt_all`]: each session is asked
/// about again before its next request is served.
pub(crate) async fn keep(proxy: Arc<Proxy>) {
    let mut pause = RECONNECT.0;
    let mut heard = false;
    loop {
        if !heard {
            // The first watch lets the PDP write off the runs an earlier start of this proxy left open: before that it
            // gets the ends of those that are known.
            let _ = tokio::time::timeout(JOURNAL_FIRST, proxy.recorder.delivered()).await;
        }
        if listen(&proxy).await {
            heard = true;
            pause = RECONNECT.0;
            warn!("watch of the pdp lost");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

/// Listens until the stream ends or is silent for too long. Says whether anything was heard.
async fn listen(proxy: &Arc<Proxy>) -> bool {
    let mut stream = match proxy.pdp.watch(&proxy.pep_id).await {
        Ok(stream) => stream,
        Err(error) => {
            warn!(%error, "pdp not heard; until it is, statements are refused");
            return false;
        }
    };
    let mut heard = false;
    while let Ok(Ok(Some(message))) = tokio::time::timeout(proxy.pdp.watch_stale(), stream.message()).await {
        proxy.pdp.watch_heard();
        if !heard {
            heard = true;
            info!("watch of the pdp open");
            proxy.doubt_all();
        }
        match message.event {
            Some(Event::BundleVersion(version)) => {
                proxy.cache.bundle_is(&version);
                info!(version, "bundle");
            }
            Some(Event::Revoked(revoked)) => {
                for session_id in revoked.session_ids {
                    proxy.revoke(&session_id);
                }
            }
            Some(Event::Heartbeat(_)) | None => {}
        }
    }
    heard
}
