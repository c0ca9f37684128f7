//! The handshake: each side proves to the other that it knows the job's secret, now, for this pair of ranks and this connection. See the README.
#![forbid(unsafe_code)]
use super::cipher::{Cipher, Noise};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::net::{IpAddr, SocketAddr};

/// Counts up with every change of the protocol.
const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"TERCIO\r\n";
/// Magic, version, whether encrypted, room, dialer, acceptor.
const CLEAR: usize = 20;
const NONCE: usize = 32;
const PROOF: usize = 32;
/// The first and second message of Noise: a key and a tag.
const NOISE: usize = 48;
/// A Noise transport message of one byte.
const SEALED: usize = 17;
/// The most bytes that a stranger can have to be listened to.
pub(crate) const STRANGER: usize = CLEAR + NONCE + PROOF;

/// Random bytes that no other connection has.
pub(crate) type Nonce = [u8; NONCE];

/// What every rank of a job knows.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) secret: [u8; 32],
    /// The job's name.
    pub(crate) job: String,
    pub(crate) encrypt: bool,
}

/// Whom a connection is between. Ranks are of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parties {
    pub(crate) dialer: u32,
    pub(crate) acceptor: u32,
    pub(crate) dialer_at: SocketAddr,
    pub(crate) acceptor_at: SocketAddr,
}

/// What an acceptor decides about a dialer that has proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verdict {
    Accepted = 1,
    Crossed = 2,
    Twice = 3,
}

/// Not somebody of this job, or not this version: the connection is closed without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stranger(pub(crate) &'static str);

/// What the four messages are labelled with, so that none can stand for another.
#[derive(Clone, Copy)]
enum Label {
    Hello = 1,
    Challenge = 2,
    Proof = 3,
    Verdict = 4,
}

impl Key {
    /// What both ends must see alike.
    fn transcript(&self, parties: &Parties) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.push(self.encrypt as u8);
        out.extend((self.job.len() as u32).to_le_bytes());
        out.extend(self.job.as_bytes());
        out.extend(parties.dialer.to_le_bytes());
        out.extend(parties.acceptor.to_le_bytes());
        for at in [parties.dialer_at, parties.acceptor_at] {
            let ip = match at.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            out.extend(ip.octets());
            out.extend(at.port().to_le_bytes());
        }
        out
    }

    fn mac(&self, label: Label, parties: &Parties, nonces: [&Nonce; 2], more: u8) -> Hmac<Sha256> {
        // HMAC takes keys of every length.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.secret)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
        mac.update(&[label as u8]);
        mac.update(&self.transcript(parties));
        mac.update(nonces[0]);
        mac.update(nonces[1]);
        mac.update(&[more]);
        mac
    }

    fn clear(&self, parties: &Parties) -> [u8; CLEAR] {
        let mut out = [0; CLEAR];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10] = self.encrypt as u8;
        out[12..16].copy_from_slice(&parties.dialer.to_le_bytes());
        out[16..20].copy_from_slice(&parties.acceptor.to_le_bytes());
        out
    }
}

/// Takes up to `want` bytes into `have`; whether they are all there, and how many of `bytes` that took.
fn gather(have: &mut Vec<u8>, want: usize, bytes: &[u8]) -> (bool, usize) {
    let n = (want - have.len()).min(bytes.len());
    have.extend_from_slice(&bytes[..n]);
    (have.len() == want, n)
}

fn nonce_of(bytes: &[u8]) -> Nonce {
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&bytes[..NONCE]);
    nonce
}

/// What a dialer hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The acceptor is who it should be; `proof` may be sent.
    Challenge,
    Verdict(Verdict),
}

/// The dialer's side.
pub(crate) struct Dialing {
    key: Key,
    parties: Parties,
    nonces: [Nonce; 2],
    noise: Option<Noise>,
    have: Vec<u8>,
    challenged: bool,
}

impl Dialing {
    /// The state, and HELLO.
    pub(crate) fn new(key: &Key, parties: Parties, nonce: Nonce) -> (Dialing, Vec<u8>) {
        let mut hello = key.clear(&parties).to_vec();
        let mut noise = None;
        if key.encrypt {
            let (state, message) = Noise::dial(&key.secret, &key.transcript(&parties));
            hello.extend(message);
            noise = Some(state);
        } else {
            hello.extend(nonce);
            let mac = key.mac(Label::Hello, &parties, [&nonce, &[0; NONCE]], 0);
            hello.extend(mac.finalize().into_bytes());
        }
        let dialing = Dialing {
            key: key.clone(),
            parties,
            nonces: [nonce, [0; NONCE]],
            noise,
            have: Vec::new(),
            challenged: false,
        };
        (dialing, hello)
    }

    /// Takes bytes from the acceptor, up to the next thing that it says: that, and how many bytes it took.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(Option<Heard>, usize), Stranger> {
        let want = match (self.challenged, self.key.encrypt) {
            (false, false) => NONCE + PROOF,
            (false, true) => NOISE,
            (true, false) => 1 + PROOF,
            (true, true) => SEALED,
        };
        let (all, used) = gather(&mut self.have, want, bytes);
        if !all {
            return Ok((None, used));
        }
        let said = core::mem::take(&mut self.have);
        if !self.challenged {
            match &mut self.noise {
                Some(noise) => noise.read(&said)?,
                None => {
                    self.nonces[1] = nonce_of(&said);
                    self.mac(Label::Challenge, 0)
                        .verify_slice(&said[NONCE..])
                        .map_err(|_| Stranger("a challenge of another job"))?;
                }
            }
            self.challenged = true;
            return Ok((Some(Heard::Challenge), used));
        }
        let word = match &mut self.noise {
            Some(noise) => noise.open_byte(&said)?,
            None => {
                self.mac(Label::Verdict, said[0])
                    .verify_slice(&said[1..])
                    .map_err(|_| Stranger("a verdict of another job"))?;
                said[0]
            }
        };
        let verdict = match word {
            1 => Verdict::Accepted,
            2 => Verdict::Crossed,
            3 => Verdict::Twice,
            _ => return Err(Stranger("a verdict that is none")),
        };
        Ok((Some(Heard::Verdict(verdict)), used))
    }

    /// PROOF. Once, after the challenge.
    pub(crate) fn proof(&mut self) -> Vec<u8> {
        match &mut self.noise {
            Some(noise) => noise.seal_byte(0),
            None => self.mac(Label::Proof, 0).finalize().into_bytes().to_vec(),
        }
    }

    /// What seals the frames, if they are sealed.
    pub(crate) fn into_cipher(self) -> Option<Cipher> {
        self.noise.and_then(Noise::into_cipher)
    }

    fn mac(&self, label: Label, more: u8) -> Hmac<Sha256> {
        let [dialer, acceptor] = &self.nonces;
        self.key.mac(label, &self.parties, [dialer, acceptor], more)
    }
}

/// What an acceptor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Rank `from` calls, or a recording of it; this is to be sent to it.
    Hello { from: u32, challenge: Vec<u8> },
    /// It is that rank.
    Proof,
}

/// The acceptor's side.
pub(crate) struct Accepting {
    key: Key,
    parties: Parties,
    ranks: u32,
    nonces: [Nonce; 2],
    noise: Option<Noise>,
    have: Vec<u8>,
    greeted: bool,
}

impl Accepting {
    /// A connection that came from `there` to `here`, where rank `me` of `ranks` listens.
    pub(crate) fn new(
        key: &Key,
        (me, ranks): (u32, u32),
        (here, there): (SocketAddr, SocketAddr),
        nonce: Nonce,
    ) -> Accepting {
        Accepting {
            key: key.clone(),
            parties: Parties {
                dialer: u32::MAX,
                acceptor: me,
                dialer_at: there,
                acceptor_at: here,
            },
            ranks,
            nonces: [[0; NONCE], nonce],
            noise: None,
            have: Vec::new(),
            greeted: false,
        }
    }

    /// The rank that it says it is, once it has said so rightly.
    pub(crate) fn from(&self) -> Option<u32> {
        self.greeted.then_some(self.parties.dialer)
    }

    /// Takes bytes from the dialer, up to the next thing that it says: that, and how many bytes it took.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(Option<Told>, usize), Stranger> {
        let want = match (self.greeted, self.key.encrypt) {
            (false, false) => CLEAR + NONCE + PROOF,
            (false, true) => CLEAR + NOISE,
            (true, false) => PROOF,
            (true, true) => SEALED,
        };
        let (all, used) = gather(&mut self.have, want, bytes);
        // Magic, version and encryption, before all of it is there.
        let ours = self.key.clear(&self.parties);
        if !self.greeted && self.have.iter().zip(&ours[..12]).any(|(a, b)| a != b) {
            return Err(Stranger("no greeting of ours"));
        }
        if !all {
            return Ok((None, used));
        }
        let said = core::mem::take(&mut self.have);
        if self.greeted {
            match &mut self.noise {
                Some(noise) => noise.open_byte(&said).map(drop)?,
                None => self
                    .mac(Label::Proof, 0)
                    .verify_slice(&said)
                    .map_err(|_| Stranger("a proof without the secret, or an old one"))?,
            }
            return Ok((Some(Told::Proof), used));
        }
        self.hello(&said).map(|told| (Some(told), used))
    }

    fn hello(&mut self, said: &[u8]) -> Result<Told, Stranger> {
        self.parties.dialer = u32::from_le_bytes([said[12], said[13], said[14], said[15]]);
        let (from, me) = (self.parties.dialer, self.parties.acceptor);
        if from >= self.ranks || from == me || said[..CLEAR] != self.key.clear(&self.parties) {
            return Err(Stranger("a greeting for somebody else"));
        }
        let challenge = if self.key.encrypt {
            let transcript = self.key.transcript(&self.parties);
            let (noise, answer) = Noise::answer(&self.key.secret, &transcript, &said[CLEAR..])?;
            self.noise = Some(noise);
            answer
        } else {
            self.nonces[0] = nonce_of(&said[CLEAR..]);
            let mac = self.key.mac(
                Label::Hello,
                &self.parties,
                [&self.nonces[0], &[0; NONCE]],
                0,
            );
            mac.verify_slice(&said[CLEAR + NONCE..])
                .map_err(|_| Stranger("a greeting without the secret"))?;
            let mut challenge = self.nonces[1].to_vec();
            challenge.extend(self.mac(Label::Challenge, 0).finalize().into_bytes());
            challenge
        };
        self.greeted = true;
        Ok(Told::Hello { from, challenge })
    }

    /// The verdict as it is sent. Once, after the proof.
    pub(crate) fn verdict(&mut self, verdict: Verdict) -> Vec<u8> {
        match &mut self.noise {
            Some(noise) => noise.seal_byte(verdict as u8),
            None => {
                let mut out = vec![verdict as u8];
                out.extend(
                    self.mac(Label::Verdict, verdict as u8)
                        .finalize()
                        .into_bytes(),
                );
                out
            }
        }
    }

    /// What seals the frames, if they are sealed.
    pub(crate) fn into_cipher(self) -> Option<Cipher> {
        self.noise.and_then(Noise::into_cipher)
    }

    fn mac(&self, label: Label, more: u8) -> Hmac<Sha256> {
        let [dialer, acceptor] = &self.nonces;
        self.key.mac(label, &self.parties, [dialer, acceptor], more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(job: &str, secret: u8, encrypt: bool) -> Key {
        Key {
            secret: [secret; 32],
            job: job.into(),
            encrypt,
        }
    }

    fn parties() -> Parties {
        Parties {
            dialer: 3,
            acceptor: 1,
            dialer_at: "192.0.2.3:1000".parse().unwrap(),
            acceptor_at: "192.0.2.1:2000".parse().unwrap(),
        }
    }

    fn acceptor(key: &Key, nonce: u8) -> Accepting {
        let Parties {
            dialer_at,
            acceptor_at,
            ..
        } = parties();
        Accepting::new(key, (1, 4), (acceptor_at, dialer_at), [nonce; 32])
    }

    /// The whole handshake; all that was said, in order.
    fn talk(mine: &Key, theirs: &Key) -> Result<[Vec<u8>; 4], Stranger> {
        let (mut dialing, hello) = Dialing::new(mine, parties(), [5; 32]);
        let mut accepting = acceptor(theirs, 6);
        let (Some(Told::Hello { from, challenge }), _) = accepting.take(&hello)? else {
            panic!("all of HELLO was there");
        };
        assert_eq!((from, accepting.from()), (3, Some(3)));
        assert_eq!(
            dialing.take(&challenge)?,
            (Some(Heard::Challenge), challenge.len())
        );
        let proof = dialing.proof();
        assert_eq!(accepting.take(&proof)?, (Some(Told::Proof), proof.len()));
        let verdict = accepting.verdict(Verdict::Accepted);
        // Frames may follow at once; they are not the handshake's.
        let mut more = verdict.clone();
        more.push(9);
        let heard = dialing.take(&more)?;
        assert_eq!(
            heard,
            (Some(Heard::Verdict(Verdict::Accepted)), verdict.len())
        );
        assert_eq!(dialing.into_cipher().is_some(), mine.encrypt);
        Ok([hello, challenge, proof, verdict])
    }

    #[test]
    fn who_knows_the_secret_is_let_in_and_nobody_else() {
        for encrypt in [false, true] {
            let ours = key("a", 7, encrypt);
            talk(&ours, &ours).unwrap();
            assert!(talk(&ours, &key("b", 7, encrypt)).is_err());
            assert!(talk(&ours, &key("a", 8, encrypt)).is_err());
            assert!(talk(&ours, &key("a", 7, !encrypt)).is_err());
        }
    }

    /// Each message, cut at every byte and with every bit turned.
    #[test]
    fn nothing_can_be_changed_and_everything_can_come_in_pieces() {
        for encrypt in [false, true] {
            let ours = key("a", 7, encrypt);
            let (_, hello) = Dialing::new(&ours, parties(), [5; 32]);
            assert!(hello.len() <= STRANGER);
            for cut in (0..hello.len()).step_by(if encrypt { 9 } else { 1 }) {
                let mut accepting = acceptor(&ours, 6);
                assert_eq!(accepting.take(&hello[..cut]).unwrap(), (None, cut));
                let (told, used) = accepting.take(&hello[cut..]).unwrap();
                assert!(told.is_some() && used == hello.len() - cut);
            }
            // Noise takes its time in a debug build.
            let step = if encrypt { 29 } else { 1 };
            for bit in (0..8 * hello.len()).step_by(step) {
                let mut wrong = hello.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    acceptor(&ours, 6).take(&wrong).is_err(),
                    "bit {bit} of HELLO"
                );
            }
            for bit in (0..8 * 48).step_by(step) {
                let (mut dialing, hello) = Dialing::new(&ours, parties(), [5; 32]);
                let mut accepting = acceptor(&ours, 6);
                let Ok((Some(Told::Hello { mut challenge, .. }), _)) = accepting.take(&hello)
                else {
                    panic!("a good greeting")
                };
                challenge[bit / 8] ^= 1 << (bit % 8);
                assert!(dialing.take(&challenge).is_err(), "bit {bit} of CHALLENGE");
            }
        }
    }

    #[test]
    fn a_recording_does_not_get_past_the_challenge() {
        for encrypt in [false, true] {
            let ours = key("a", 7, encrypt);
            let [hello, _, proof, _] = talk(&ours, &ours).unwrap();
            let mut later = acceptor(&ours, 99);
            assert!(matches!(
                later.take(&hello),
                Ok((Some(Told::Hello { .. }), _))
            ));
            assert!(later.take(&proof).is_err());
        }
    }

    #[test]
    fn strangers_are_refused_at_the_first_wrong_byte() {
        let mut accepting = acceptor(&key("a", 7, false), 6);
        assert!(accepting.take(b"GET / HTTP/1.1").is_err());
        // A greeting meant for another rank, or from one that does not exist, or from another place.
        let ours = key("a", 7, false);
        for change in [
            |p: &mut Parties| p.acceptor = 2,
            |p: &mut Parties| p.dialer = 4,
            |p: &mut Parties| p.dialer = 1,
            |p: &mut Parties| p.dialer_at.set_port(1001),
            |p: &mut Parties| p.acceptor_at.set_ip([127, 0, 0, 1].into()),
        ] {
            let mut other = parties();
            change(&mut other);
            let (_, hello) = Dialing::new(&ours, other, [5; 32]);
            assert!(acceptor(&ours, 6).take(&hello).is_err(), "{other:?}");
        }
    }
}
