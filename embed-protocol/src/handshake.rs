//! How two programs find out that both know a secret without either saying it.
//!
//! ```text
//! client                                                       worker
//!   32 bytes: its nonce                                          ->
//!   <-          32 bytes: its nonce, 32 bytes: HMAC(secret, "embed-worker 1" | client's | worker's)
//!   32 bytes: HMAC(secret, "embed-client 1" | worker's | client's) ->
//! frames                                                     frames
//! ```
//!
//! The worker proves itself first, so a program that has taken a dead worker's port hears one nonce
//! and nothing else. The two labels differ, so that no proof can be sent back to who made it; both
//! nonces are in both proofs, so that none can be used again.
//!
//! States and bytes only: whoever calls this reads, writes and watches the time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::{SECRET_BYTES, Secret};

/// A number used once.
pub type Nonce = [u8; SECRET_BYTES];

/// What shows that its sender knows the secret.
pub type Proof = [u8; SECRET_BYTES];

/// The worker's answer: its nonce, then its proof.
pub type Challenge = [u8; 2 * SECRET_BYTES];

/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;

const WORKER_LABEL: &[u8] = b"embed-worker 1";
const CLIENT_LABEL: &[u8] = b"embed-client 1";

/// The other side does not know the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("handshake: the other side does not know the worker's secret")]
pub struct NotProven;

/// A client that has sent its nonce.
#[derive(Debug)]
pub struct ClientHandshake<'a> {
    secret: &'a Secret,
    nonce: Nonce,
}

impl<'a> ClientHandshake<'a> {
    /// Begins with a nonce from [`crate::secret::random`], which is to be sent.
    pub fn new(secret: &'a Secret, nonce: Nonce) -> Self {
        Self { secret, nonce }
    }

    /// Checks the worker's answer, and gives the proof that is to be sent before the first frame.
    ///
    /// # Errors
    ///
    /// It is not the worker that left the secret: nothing more must be sent.
    pub fn finish(self, challenge: &Challenge) -> Result<Proof, NotProven> {
        let (worker_nonce, proof) = challenge.split_at(SECRET_BYTES);
        check(self.secret, [WORKER_LABEL, &self.nonce, worker_nonce], proof)?;
        Ok(prove(self.secret, [CLIENT_LABEL, worker_nonce, &self.nonce]))
    }
}

/// A worker that has a client's nonce.
#[derive(Debug)]
pub struct WorkerHandshake<'a> {
    secret: &'a Secret,
    nonce: Nonce,
    client_nonce: Nonce,
}

impl<'a> WorkerHandshake<'a> {
    /// Takes the client's nonce and an own one from [`crate::secret::random`].
    pub fn new(secret: &'a Secret, nonce: Nonce, client_nonce: Nonce) -> Self {
        Self { secret, nonce, client_nonce }
    }

    /// What is to be sent.
    pub fn challenge(&self) -> Challenge {
        let mut challenge = [0; 2 * SECRET_BYTES];
        let (nonce, proof) = challenge.split_at_mut(SECRET_BYTES);
        nonce.copy_from_slice(&self.nonce);
        proof.copy_from_slice(&prove(self.secret, [WORKER_LABEL, &self.client_nonce, &self.nonce]));
        challenge
    }

    /// Checks the client's proof, after which frames follow.
    ///
    /// # Errors
    ///
    /// It is not a client of this user: the connection must be closed.
    pub fn finish(self, proof: &Proof) -> Result<(), NotProven> {
        check(self.secret, [CLIENT_LABEL, &self.nonce, &self.client_nonce], proof)
    }
}

fn mac(secret: &Secret, parts: [&[u8]; 3]) -> Hmac<Sha256> {
    // HMAC fills a short key up with zeros itself; a key of a whole block cannot be refused.
    let mut key = [0; BLOCK_BYTES];
    key[..SECRET_BYTES].copy_from_slice(secret.bytes());
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&key.into());
    parts.iter().for_each(|part| mac.update(part));
    mac
}

fn prove(secret: &Secret, parts: [&[u8]; 3]) -> Proof {
    mac(secret, parts).finalize().into_bytes().into()
}

/// Takes the same time wherever the proof is wrong.
fn check(secret: &Secret, parts: [&[u8]; 3], proof: &[u8]) -> Result<(), NotProven> {
    mac(secret, parts).verify_slice(proof).map_err(|_| NotProven)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Nonce = [1; SECRET_BYTES];
    const WORKER: Nonce = [2; SECRET_BYTES];

    fn secret() -> Secret {
        Secret::from_bytes([3; SECRET_BYTES])
    }

    #[test]
    fn who_knows_the_secret_is_believed_on_both_sides() {
        let (secret, own) = (secret(), secret());
        let worker = WorkerHandshake::new(&own, WORKER, CLIENT);
        let proof = ClientHandshake::new(&secret, CLIENT).finish(&worker.challenge());
        assert_eq!(worker.finish(&proof.expect("the worker is believed")), Ok(()));
    }

    #[test]
    fn a_wrong_bit_anywhere_is_not_believed() {
        let secret = secret();
        let challenge = WorkerHandshake::new(&secret, WORKER, CLIENT).challenge();
        for bit in 0..challenge.len() * 8 {
            let mut wrong = challenge;
            wrong[bit / 8] ^= 1 << (bit % 8);
            let answer = ClientHandshake::new(&secret, CLIENT).finish(&wrong);
            assert_eq!(answer, Err(NotProven), "bit {bit}");
        }
        let proof = ClientHandshake::new(&secret, CLIENT).finish(&challenge).expect("right");
        for bit in 0..proof.len() * 8 {
            let mut wrong = proof;
            wrong[bit / 8] ^= 1 << (bit % 8);
            let worker = WorkerHandshake::new(&secret, WORKER, CLIENT);
            assert_eq!(worker.finish(&wrong), Err(NotProven), "bit {bit}");
        }
    }

    #[test]
    fn another_secret_is_not_believed() {
        let (ours, theirs) = (secret(), Secret::from_bytes([4; SECRET_BYTES]));
        let worker = WorkerHandshake::new(&theirs, WORKER, CLIENT);
        let answer = ClientHandshake::new(&ours, CLIENT).finish(&worker.challenge());
        assert_eq!(answer, Err(NotProven));
    }

    /// Else a client could be answered with its own words, or with those of an earlier connection.
    #[test]
    fn no_proof_is_good_twice_or_the_other_way_round() {
        let secret = secret();
        let worker = WorkerHandshake::new(&secret, WORKER, CLIENT);
        let proof = ClientHandshake::new(&secret, CLIENT).finish(&worker.challenge());
        let proof = proof.expect("the worker is believed");
        let later = WorkerHandshake::new(&secret, [9; SECRET_BYTES], CLIENT);
        assert_eq!(later.finish(&proof), Err(NotProven), "another nonce of the worker's");
        let later = ClientHandshake::new(&secret, [9; SECRET_BYTES]);
        assert_eq!(
            later.finish(&worker.challenge()),
            Err(NotProven),
            "another nonce of the client's"
        );
        // A worker made to take the same nonce on both sides still proves another thing.
        let mirror = WorkerHandshake::new(&secret, CLIENT, CLIENT).challenge();
        let own: Proof = mirror[SECRET_BYTES..].try_into().expect("32 bytes");
        let mirrored = WorkerHandshake::new(&secret, CLIENT, CLIENT).finish(&own);
        assert_eq!(mirrored, Err(NotProven), "a proof sent back to who made it");
    }
}
