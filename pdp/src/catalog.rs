//! What the warehouse says of its own objects, asked through a PEP, under what the bundle says.

mod link;
mod lookup;
mod service;
mod sync;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use icegate_pdp_audit::Event;
use icegate_pdp_model::{Catalog, RelationName, with_causes};
use icegate_pdp_pip::warehouse::{Warehouse, WarehouseDatabase, WarehouseRelation};
use icegate_pdp_policy::Bundle;
use icegate_pdp_store::{CatalogChange, Change, StateChange, Store, StoreError};
use tonic::Status;
use tracing::{info, warn};

pub(crate) use self::{
    link::Link,
    lookup::Lookups,
    service::{ANSWER_BYTES_MAX, Catalogs},
    sync::keep,
};
use crate::{CatalogConfig, clock, hub, metrics, state::Pdp};

/// What is in force, and what it is made of.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The bundle as its files say it.
    pub(crate) files: Arc<Bundle>,
    pub(crate) warehouse: Warehouse,
    /// What can be used of it.
    catalog: Arc<Catalog>,
    digest: String,
    /// What the bundle and the warehouse define differently.
    differences: Vec<String>,
}

/// What was read anew of one database.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) database: String,
    /// Besides its relations.
    pub(crate) found: Option<WarehouseDatabase>,
    pub(crate) put: BTreeMap<RelationName, WarehouseRelation>,
    pub(crate) removed: Vec<RelationName>,
}

/// Everything about syncing, when it is on.
#[derive(Debug)]
pub(crate) struct Syncing {
    pub(crate) config: CatalogConfig,
    pub(crate) link: Link,
    pub(crate) lookups: Lookups,
}

impl Syncing {
    pub(crate) fn new(config: CatalogConfig) -> Self {
        Self { link: Link::default(), lookups: Lookups::new(&config), config }
    }
}

impl Facts {
    /// The bundle's files over what was read of the warehouse before; answers what is in force as well.
    pub(crate) fn new(files: Bundle, warehouse: Warehouse) -> (Self, Bundle) {
        let catalog = Arc::new(warehouse.catalog());
        let digest = Warehouse::digest(&catalog);
        let (bundle, differences) = files.over_warehouse(&catalog, &digest);
        (Self { files: Arc::new(files), warehouse, catalog, digest, differences }, bundle)
    }
}

impl Pdp {
    /// Puts other files in force; answers the bundle in force before and the one after, or `None` if they are the same.
    pub(crate) async fn take_files(&self, files: Bundle) -> Option<(Arc<Bundle>, Arc<Bundle>)> {
        let mut facts = self.facts.lock().await;
        if facts.files.version() == files.version() {
            return None;
        }
        let files = Arc::new(files);
        let (bundle, differences) = over(&files, &facts.catalog, &facts.digest).await?;
        facts.files = files;
        facts.differences = differences;
        let after = Arc::new(bundle);
        let before = self.swap(Arc::clone(&after));
        Some((before, after))
    }

    /// Makes what was read durable and puts it in force.
    pub(crate) async fn take_reading(&self, reading: Reading) -> Result<(), Status> {
        let mut facts = self.facts.lock().await;
        let state = StateChange::PutCatalog(Box::new(written(&reading)?));
        let mut warehouse = facts.warehouse.clone();
        for name in &reading.removed {
            warehouse.relations.remove(name);
        }
        warehouse.relations.extend(reading.put);
        if let Some(found) = reading.found {
            warehouse.databases.insert(reading.database, found);
        }
        let lost = || Status::internal("The catalog could not be put together; tell your icegate administrator.");
        // Large warehouses take their time: not on a thread that serves.
        let (warehouse, catalog, digest) = tokio::task::spawn_blocking(move || {
            let catalog = warehouse.catalog();
            let digest = Warehouse::digest(&catalog);
            (warehouse, catalog, digest)
        })
        .await
        .map_err(|_| lost())?;
        let catalog = Arc::new(catalog);
        let now = clock::now();
        let changed = if digest == facts.digest {
            None
        } else {
            Some(over(&facts.files, &catalog, &digest).await.ok_or_else(lost)?)
        };
        let events = changed.iter().map(|(bundle, _)| Event::BundleLoaded {
            version: bundle.version().to_owned(),
            previous: Some(self.bundle().version().to_owned()),
        });
        self.commit(Change { states: vec![state], events: events.collect(), at: now }).await?;
        facts.warehouse = warehouse;
        facts.catalog = catalog;
        facts.digest = digest;
        metrics::catalog(&facts.warehouse);
        if let Some((bundle, differences)) = changed {
            facts.differences = differences;
            let version = bundle.version().to_owned();
            let before = self.swap(Arc::new(bundle));
            metrics::bundle_in_force(&version, Some(before.version()), now.unix_seconds());
            self.hub.tell(hub::Event::Bundle(version.clone()));
            info!(version, previous = before.version(), "catalog of the warehouse in force");
        }
        Ok(())
    }
}

/// The files over the warehouse, put together where it holds up nobody.
async fn over(files: &Arc<Bundle>, catalog: &Arc<Catalog>, digest: &str) -> Option<(Bundle, Vec<String>)> {
    let (files, catalog, digest) = (Arc::clone(files), Arc::clone(catalog), digest.to_owned());
    tokio::task::spawn_blocking(move || files.over_warehouse(&catalog, &digest)).await.ok()
}

fn written(reading: &Reading) -> Result<CatalogChange, Status> {
    let unwritable = |_| Status::internal("The catalog could not be written; tell your icegate administrator.");
    let mut change = CatalogChange { database: reading.database.clone(), ..CatalogChange::default() };
    change.body = reading.found.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?;
    for (name, relation) in &reading.put {
        change.put.push((name.to_string(), serde_json::to_string(relation).map_err(unwritable)?));
    }
    change.removed = reading.removed.iter().map(ToString::to_string).collect();
    Ok(change)
}

/// What was read before this start, of the databases that are still to be read. A row that does not read is read anew.
pub(crate) async fn remembered(store: &Store, config: Option<&CatalogConfig>) -> Result<Warehouse, StoreError> {
    let mut warehouse = Warehouse::default();
    let Some(config) = config else { return Ok(warehouse) };
    let (databases, relations) = store.catalog().await?;
    for (name, body) in databases.into_iter().filter(|(name, _)| config.databases.contains(name)) {
        match serde_json::from_str(&body) {
            Ok(found) => drop(warehouse.databases.insert(name, found)),
            Err(error) => warn!(database = name, error = with_causes(&error), "database is read anew"),
        }
    }
    for (name, body) in relations {
        let parsed = name.parse::<RelationName>().ok().zip(serde_json::from_str(&body).ok());
        match parsed {
            Some((name, relation)) if config.databases.contains(&name.database) => {
                warehouse.relations.insert(name, relation);
            }
            Some(_) => {}
            None => warn!("a relation of the warehouse is read anew"),
        }
    }
    Ok(warehouse)
}

/// Longest answer to one question of a sync.
const QUESTION_LONGEST: Duration = Duration::from_mins(1);
