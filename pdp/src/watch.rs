use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use icegate_pdp_audit::{Event, OutcomeEvent};
use icegate_pdp_store::Change;
use icegate_proto::v1::{self, watch_response};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::{
    clock, hub, metrics,
    state::{Pdp, Work, named, unreadable},
};

/// A PEP that hears nothing for a while treats the PDP as gone.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Messages on their way to a PEP.
const AHEAD: usize = 16;

/// What a PEP must hear at once.
#[derive(Debug, Clone)]
pub(crate) struct Watches(pub(crate) Arc<Pdp>);

type Answer = Result<v1::WatchResponse, Status>;

#[tonic::async_trait]
impl v1::watch_service_server::WatchService for Watches {
    type WatchStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.0.pep(&request)?;
        let watching = self.0.begin(Work::Watch)?;
        let v1::WatchRequest { pep_id, instance_id } = request.into_inner();
        named("pep_id", &pep_id)?;
        named("instance_id", &instance_id)?;
        self.0.instance_seen(&pep_id, &instance_id);
        self.0.close_runs(&pep_id, &instance_id).await?;
        info!(pep_id, "pep watches");
        // Subscribed before the present version is read: a change in between is then heard twice, not never.
        let events = self.0.hub.events();
        let (answers, stream) = mpsc::channel(AHEAD);
        let pdp = Arc::clone(&self.0);
        tokio::spawn(async move {
            metrics::watches_open(1.0);
            tell(&pdp, events, &answers).await;
            metrics::watches_open(-1.0);
            info!(pep_id, "pep watches no more");
            drop(watching);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Pdp {
    /// Runs that an earlier start of this PEP left open have an end nobody will tell.
    async fn close_runs(&self, pep_id: &str, instance: &str) -> Result<(), Status> {
        loop {
            let open = self.store.open_runs(pep_id, instance).await.map_err(|error| unreadable(&error))?;
            if open.is_empty() {
                return Ok(());
            }
            warn!(pep_id, runs = open.len(), "runs of an earlier start are recorded as unknown");
            let unknown = |run: icegate_pdp_store::OpenRun| {
                Event::Outcome(OutcomeEvent::unknown(run.decision_id, run.session_id))
            };
            let events = open.into_iter().map(unknown).collect();
            self.commit(Change { states: Vec::new(), events, at: clock::now() }).await?;
        }
    }
}

/// Tells one PEP until it, or the service, is gone.
async fn tell(pdp: &Pdp, mut events: tokio::sync::broadcast::Receiver<hub::Event>, answers: &mpsc::Sender<Answer>) {
    let mut stopping = pdp.stopping.clone();
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let mut next = watch_response::Event::BundleVersion(pdp.bundle().version().to_owned());
    loop {
        if answers.send(Ok(v1::WatchResponse { event: Some(next) })).await.is_err() {
            return;
        }
        next = tokio::select! {
            event = events.recv() => match event {
                Ok(hub::Event::Bundle(version)) => watch_response::Event::BundleVersion(version),
                Ok(hub::Event::Revoked(session_ids)) => {
                    watch_response::Event::Revoked(v1::RevokedSessions { session_ids: session_ids.to_vec() })
                }
                Err(RecvError::Lagged(_)) => {
                    // It has missed something: it must drop what it keeps and start from the present.
                    let _ = answers.send(Err(Status::data_loss("Events were missed; watch again."))).await;
                    return;
                }
                Err(RecvError::Closed) => return,
            },
            _ = heartbeat.tick() => watch_response::Event::Heartbeat(v1::Heartbeat {}),
            _ = stopping.changed() => return,
            () = answers.closed() => return,
        };
    }
}
