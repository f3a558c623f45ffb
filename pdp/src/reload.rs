//! Bundles that take effect while the service runs.

use std::{sync::Arc, time::Duration};

use icegate_pdp_audit::Event;
use icegate_pdp_model::with_causes;
use icegate_pdp_pip::{BundleDir, BundleDirError};
use icegate_pdp_policy::Bundle;
use icegate_pdp_store::Change;
use tokio::{sync::mpsc, task::JoinSet};
use tracing::{error, info, warn};

use crate::{clock, hub, metrics, state::Pdp};

/// Looks for another bundle every `every`, in two tasks of `tasks`: one that looks, one that puts in force.
pub(crate) fn spawn(pdp: &Arc<Pdp>, dir: BundleDir, every: Duration, tasks: &mut JoinSet<()>) {
    let (found, mut news) = mpsc::unbounded_channel();
    tasks.spawn(async move {
        // When nobody takes the news, the service is stopping.
        dir.watch(every, move |bundle| drop(found.send(bundle))).await;
    });
    let pdp = Arc::clone(pdp);
    tasks.spawn(async move {
        while let Some(bundle) = news.recv().await {
            match bundle {
                Ok(bundle) => take(&pdp, bundle).await,
                Err(error) => refuse(&pdp, &error).await,
            }
        }
    });
}

async fn take(pdp: &Pdp, bundle: Bundle) {
    warn_of(&bundle);
    let now = clock::now();
    let Some((before, after)) = pdp.take_files(bundle).await else { return };
    let version = after.version().to_owned();
    metrics::bundle_in_force(&version, Some(before.version()), now.unix_seconds());
    pdp.hub.tell(hub::Event::Bundle(version.clone()));
    info!(version, previous = before.version(), "bundle in force");
    let event = Event::BundleLoaded { version, previous: Some(before.version().to_owned()) };
    if let Err(status) = pdp.commit(Change::event(event, now)).await {
        error!(error = status.message(), "bundle in force is not on record");
    }
}

async fn refuse(pdp: &Pdp, error: &BundleDirError) {
    metrics::bundle_refused();
    let kept = pdp.bundle().version().to_owned();
    let reason = with_causes(error);
    for problem in reason.lines() {
        warn!(problem, kept, "bundle refused");
    }
    let event = Event::BundleRefused { reason, kept: Some(kept) };
    if let Err(status) = pdp.commit(Change::event(event, clock::now())).await {
        error!(error = status.message(), "refused bundle is not on record");
    }
}

/// What works and is probably not meant.
pub(crate) fn warn_of(bundle: &Bundle) {
    for lint in bundle.lints() {
        warn!(lint = %lint, "bundle");
    }
}
