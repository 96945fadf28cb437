//! What logs call a connection and a request: the same in both processes, so that their lines can be
//! put side by side.

use std::fmt;

/// A connection, told from every other on this machine that is open at the same time.
///
/// Reads `CLIENT-WORKER-NUMBER`: two process ids, and the number that the worker gave the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionName {
    /// Process id of the client, as its hello says.
    pub client: u32,
    /// Process id of the worker.
    pub worker: u32,
    /// [`crate::WorkerHello::connection`].
    pub number: u64,
}

impl ConnectionName {
    /// The request of that id on it: reads `CLIENT-WORKER-NUMBER-ID`.
    pub fn request(self, id: u64) -> RequestName {
        RequestName { connection: self, id }
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.client, self.worker, self.number)
    }
}

/// A request: see [`ConnectionName::request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestName {
    connection: ConnectionName,
    id: u64,
}

impl fmt::Display for RequestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.connection, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_client_inwards() {
        let connection = ConnectionName { client: 42, worker: 4711, number: 3 };
        assert_eq!(connection.to_string(), "42-4711-3");
        assert_eq!(connection.request(17).to_string(), "42-4711-3-17");
    }
}
