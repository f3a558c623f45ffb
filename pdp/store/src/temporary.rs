use icegate_pdp_audit::{OutcomeEvent, RunStatus};
use icegate_pdp_model::{RelationName, Temporary, TemporaryRow};
use sqlx::sqlite::SqliteConnection;

use crate::{
    Store, StoreError,
    writer::{Failure, json},
};

/// Columns of `temporary_relations`: name, decision, made, alone, body.
type Columns = (String, String, i64, i64, String);

impl Store {
    /// The temporary relations of a session, by name and then by decision.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn temporaries(&self, session_id: &str) -> Result<Vec<(RelationName, TemporaryRow)>, StoreError> {
        let rows: Vec<Columns> = sqlx::query_as(
            "SELECT name, decision_id, made, alone, body FROM temporary_relations WHERE session_id = ?
             ORDER BY name, decision_id",
        )
        .bind(session_id)
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::read)?;
        rows.into_iter().map(read).collect()
    }

    /// The sessions that have any.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn sessions_with_temporaries(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT DISTINCT session_id FROM temporary_relations")
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::read)
    }
}

fn read((name, decision_id, made, alone, body): Columns) -> Result<(RelationName, TemporaryRow), StoreError> {
    match (name.parse(), serde_json::from_str(&body)) {
        (Ok(relation), Ok(body)) => {
            Ok((relation, TemporaryRow { decision_id, made: made == 1, alone: alone == 1, body }))
        }
        _ => Err(StoreError::Row { what: "temporary relation", id: name }),
    }
}

/// Puts these in the place of what is kept under the name.
pub(crate) async fn put(
    connection: &mut SqliteConnection,
    session_id: &str,
    name: &str,
    rows: &[(TemporaryRow, String)],
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM temporary_relations WHERE session_id = ? AND name = ?")
        .bind(session_id)
        .bind(name)
        .execute(&mut *connection)
        .await?;
    for (row, body) in rows {
        sqlx::query(
            "INSERT INTO temporary_relations (session_id, name, decision_id, made, alone, body) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(session_id)
        .bind(name)
        .bind(&row.decision_id)
        .bind(i64::from(row.made))
        .bind(i64::from(row.alone))
        .bind(body)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Forgets all of a session.
pub(crate) async fn forget(connection: &mut SqliteConnection, session_id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM temporary_relations WHERE session_id = ?").bind(session_id).execute(connection).await?;
    Ok(())
}

/// What the end of a run says of what it makes: it is there and nothing else under its name, but for what may not have ended; or
/// it is not there. When some of its request may have ended well that is not known, but nothing is still to come. Of any other
/// end, nothing is known.
pub(crate) async fn ended(connection: &mut SqliteConnection, outcome: &OutcomeEvent) -> Result<(), Failure> {
    match outcome.status {
        RunStatus::Succeeded => {
            sqlx::query(
                "DELETE FROM temporary_relations WHERE decision_id <> ?1 AND made = 1 AND (session_id, name) IN
                     (SELECT session_id, name FROM temporary_relations WHERE decision_id = ?1)",
            )
            .bind(&outcome.decision_id)
            .execute(&mut *connection)
            .await?;
            sqlx::query("UPDATE temporary_relations SET made = 1 WHERE decision_id = ?")
                .bind(&outcome.decision_id)
                .execute(connection)
                .await?;
        }
        RunStatus::Failed | RunStatus::NotSent | RunStatus::Withheld => {
            sqlx::query("DELETE FROM temporary_relations WHERE decision_id = ?1 AND (alone = 1 AND ?2 = 'failed' OR ?2 = 'not-sent')")
                .bind(&outcome.decision_id)
                .bind(outcome.status.as_str())
                .execute(&mut *connection)
                .await?;
            let unknown = json(&Temporary::Unknown)?;
            sqlx::query("UPDATE temporary_relations SET made = 1, body = ? WHERE decision_id = ?")
                .bind(unknown)
                .bind(&outcome.decision_id)
                .execute(connection)
                .await?;
        }
        RunStatus::Cancelled | RunStatus::Unknown => {}
    }
    Ok(())
}
