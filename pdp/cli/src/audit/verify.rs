use std::io::Write;

use icegate_pdp_audit::{Hash, Verifier};
use icegate_proto::v1::{
    ExportRecordsRequest, IntegrityReport, Record, audit_service_client::AuditServiceClient,
    export_records_response::Item,
};

use crate::{
    connect::{Pdp, refused},
    exit::{Exit, Failure, chain},
    progress::{self, Counter},
    show,
};

/// Streams the trail and computes every hash again.
pub(super) async fn run(
    client: &mut AuditServiceClient<Pdp>,
    from_seq: u64,
    to_seq: u64,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    if to_seq != 0 && to_seq < from_seq {
        return Err(Failure::new(Exit::Usage, "`--to-seq` is before `--from-seq`; swap them"));
    }
    let request = ExportRecordsRequest { from_seq, to_seq };
    let asked = progress::wait("asking for the records", client.export_records(request)).await;
    let mut stream = asked.map_err(|status| refused(&status))?.into_inner();
    let mut check = Check::new(from_seq, to_seq);
    let mut counter = Counter::new();
    while let Some(answer) = stream.message().await.map_err(|status| refused(&status))? {
        match answer.item {
            Some(Item::Record(record)) => check.record(&record),
            Some(Item::Integrity(report)) => check.integrity(report),
            None => {}
        }
        // The rest cannot be judged once one link is broken.
        if check.broken.is_some() {
            break;
        }
        counter.at(|| format!("{} checked …", show::count(check.records, "record")));
    }
    check.report(out)
}

/// What has been found so far.
struct Check {
    from_seq: u64,
    to_seq: u64,
    verifier: Option<Verifier>,
    records: u64,
    broken: Option<String>,
    integrity: Option<IntegrityReport>,
}

impl Check {
    fn new(from_seq: u64, to_seq: u64) -> Self {
        let verifier = (from_seq <= 1).then(Verifier::new);
        Self { from_seq, to_seq, verifier, records: 0, broken: None, integrity: None }
    }

    fn record(&mut self, record: &Record) {
        let verifier = match &mut self.verifier {
            Some(verifier) => verifier,
            // Checking begins in the middle: the first record's own word for what came before is all there is.
            none => match Hash::try_from(record.prev_hash.as_slice()) {
                Ok(prev) if record.seq == self.from_seq => none.insert(Verifier::after(record.seq - 1, prev)),
                Ok(_) | Err(_) => {
                    self.broken = Some(format!("record {} is not there: record {} is next", self.from_seq, record.seq));
                    return;
                }
            },
        };
        match verifier.push(record.seq, &record.body, &record.prev_hash, &record.hash) {
            Ok(_) => self.records += 1,
            Err(error) => self.broken = Some(chain(&error)),
        }
    }

    fn integrity(&mut self, report: IntegrityReport) {
        self.integrity = Some(report);
    }

    /// Says what was checked, and the first thing that is wrong.
    fn report(self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let checked = show::count(self.records, "record");
        if let Some(broken) = self.broken {
            writeln!(out, "{checked} hold, then the trail breaks.")?;
            return Err(Failure::new(Exit::Failed, broken));
        }
        let Some(integrity) = self.integrity else {
            let message = "the PDP ended its answer early, so the end of the trail was not checked; try again";
            return Err(Failure::new(Exit::Failed, message));
        };
        let Some((last, head)) = self.verifier.filter(|_| self.records > 0).map(|verifier| verifier.head()) else {
            writeln!(out, "No records to check.")?;
            return after_store(&integrity, out);
        };
        writeln!(out, "{checked} checked, from {} to {last}: bodies, hashes and order hold.", last + 1 - self.records)?;
        if self.from_seq > 1 {
            writeln!(out, "Records before {} were not checked.", self.from_seq)?;
        }
        writeln!(out, "Head: {last} sha256:{}", super::hex(&head))?;
        writeln!(out, "Keep the head somewhere else: whoever owns the store could rebuild the whole trail.")?;
        if self.to_seq != 0 && last < self.to_seq {
            return Err(Failure::new(Exit::Failed, format!("the trail ends at record {last}, before {}", self.to_seq)));
        }
        if self.to_seq == 0 && integrity.records > last {
            let message = format!("the store counts {} records and the trail ends at {last}", integrity.records);
            return Err(Failure::new(Exit::Failed, message));
        }
        after_store(&integrity, out)
    }
}

/// What the database engine says of its own file.
fn after_store(integrity: &IntegrityReport, out: &mut dyn Write) -> Result<Exit, Failure> {
    let counted = show::count(integrity.records, "record");
    if integrity.problems.is_empty() {
        writeln!(out, "The store counts {counted} and finds its file and indexes sound.")?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "The store counts {counted} and reports:")?;
    for problem in &integrity.problems {
        writeln!(out, "  {}", show::visible(problem))?;
    }
    Err(Failure::new(Exit::Failed, "the store is damaged; restore it from a backup and verify again"))
}

#[cfg(test)]
mod tests {
    use icegate_pdp_audit::{Event, GENESIS, Record as Entry, chain};
    use icegate_pdp_model::Timestamp;

    use super::*;

    fn trail(length: u64) -> Vec<Record> {
        let mut prev = GENESIS;
        (1..=length)
            .map(|seq| {
                let event = Event::ServiceStopped { instance: format!("i{seq}") };
                let body = Entry { seq, at: Timestamp(1), event }.canonical();
                let hash = chain(&prev, &body);
                let record = Record { seq, body, prev_hash: prev.to_vec(), hash: hash.to_vec() };
                prev = hash;
                record
            })
            .collect()
    }

    fn check(from: u64, to: u64, records: &[Record], report: Option<(u64, &[&str])>) -> (String, Result<Exit, String>) {
        let mut check = Check::new(from, to);
        for record in records {
            check.record(record);
            if check.broken.is_some() {
                break;
            }
        }
        if let Some((records, problems)) = report {
            let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
            check.integrity(IntegrityReport { problems, records });
        }
        let mut out = Vec::new();
        let done = check.report(&mut out).map_err(|failure| failure.to_string());
        (String::from_utf8(out).unwrap(), done)
    }

    #[test]
    fn a_sound_trail_holds() {
        let (said, done) = check(0, 0, &trail(3), Some((3, &[])));
        assert_eq!(done, Ok(Exit::Ok));
        assert!(
            said.starts_with("3 records checked, from 1 to 3: bodies, hashes and order hold.\nHead: 3 sha256:"),
            "{said}"
        );
        let (said, done) = check(2, 3, &trail(3)[1..], Some((3, &[])));
        assert_eq!(done, Ok(Exit::Ok));
        assert!(said.contains("Records before 2 were not checked."), "{said}");
        assert_eq!(check(0, 0, &[], Some((0, &[]))).1, Ok(Exit::Ok));
    }

    #[test]
    fn every_way_to_break_it_is_named() {
        let broken = |change: fn(&mut Vec<Record>)| {
            let mut records = trail(3);
            change(&mut records);
            check(0, 0, &records, Some((3, &[]))).1.unwrap_err()
        };
        assert!(broken(|records| records[1].body[40] ^= 1).contains("record 2 was altered"));
        assert!(broken(|records| records[1].hash[0] ^= 1).contains("record 2 was altered"));
        assert!(broken(|records| records[1].prev_hash[0] ^= 1).contains("record 2 does not continue"));
        assert!(broken(|records| drop(records.remove(1))).contains("record 2 is expected and record 3 is next"));
        assert!(broken(|records| records.swap(1, 2)).contains("record 2 is expected"));
        assert!(broken(|records| drop(records.pop())).contains("the store counts 3 records and the trail ends at 2"));
        assert!(check(2, 0, &trail(3)[2..], None).1.unwrap_err().contains("record 2 is not there"));
        assert!(check(0, 5, &trail(3), Some((3, &[]))).1.unwrap_err().contains("before 5"));
        assert!(check(0, 0, &trail(3), None).1.unwrap_err().contains("ended its answer early"));
        let (said, done) = check(0, 0, &trail(3), Some((3, &["row 3 missing from index x"])));
        assert!(done.unwrap_err().contains("damaged"));
        assert!(said.contains("row 3 missing from index x"));
    }
}
