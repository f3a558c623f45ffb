use sqlx::sqlite::SqliteConnection;

use crate::{CatalogChange, Store, StoreError};

/// Rows by name.
type Bodies = Vec<(String, String)>;

impl Store {
    /// What was read of the warehouse: databases and relations, each by name with its body.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn catalog(&self) -> Result<(Bodies, Bodies), StoreError> {
        let databases = sqlx::query_as("SELECT name, body FROM catalog_databases ORDER BY name")
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::read)?;
        let relations = sqlx::query_as("SELECT name, body FROM catalog_relations ORDER BY database, name")
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::read)?;
        Ok((databases, relations))
    }
}

pub(crate) async fn put(connection: &mut SqliteConnection, change: CatalogChange) -> Result<(), sqlx::Error> {
    let CatalogChange { database, body, put, removed } = change;
    if let Some(body) = body {
        sqlx::query(
            "INSERT INTO catalog_databases (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
        )
        .bind(&database)
        .bind(body)
        .execute(&mut *connection)
        .await?;
    }
    for (name, body) in put {
        sqlx::query(
            "INSERT INTO catalog_relations (database, name, body) VALUES (?, ?, ?)
             ON CONFLICT (database, name) DO UPDATE SET body = excluded.body",
        )
        .bind(&database)
        .bind(name)
        .bind(body)
        .execute(&mut *connection)
        .await?;
    }
    for name in removed {
        sqlx::query("DELETE FROM catalog_relations WHERE database = ? AND name = ?")
            .bind(&database)
            .bind(name)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
