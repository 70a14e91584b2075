//! Waiting for the device without blocking.

use beit::Result;
use beit::gpu::Arrivals;
use beit::session::{HostData, Session, Ticket};

/// The outputs of a read-back, once they have arrived.
pub(crate) async fn take(
    session: &mut dyn Session,
    arrivals: &Arrivals,
    ticket: Ticket,
) -> Result<Vec<HostData>> {
    loop {
        let seen = arrivals.count();
        if let Some(data) = session.take(ticket, false)? {
            return Ok(data);
        }
        arrivals.after(seen).await;
    }
}

/// The result of a job that is advanced without waiting. Whenever it gives nothing, a read-back of it is on its way.
pub(crate) async fn finish<T>(
    arrivals: &Arrivals,
    mut advance: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    loop {
        let seen = arrivals.count();
        if let Some(found) = advance()? {
            return Ok(found);
        }
        arrivals.after(seen).await;
    }
}
