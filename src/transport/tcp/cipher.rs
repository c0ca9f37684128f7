//! Encryption between hosts: the handshake of Noise NNpsk0, and what seals frames after it. The cryptography is the crate `snow`'s.
#![forbid(unsafe_code)]
use super::greeting::Stranger;
use snow::{Builder, HandshakeState, TransportState};

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
/// The most bytes of a Noise message, and its tag.
const MESSAGE: usize = 65535;
const TAG: usize = 16;
/// The most plain bytes of a record: its length is two bytes.
pub(crate) const RECORD: usize = MESSAGE - TAG;

/// A handshake under way, or over.
pub(crate) enum Noise {
    Under(Box<HandshakeState>),
    Over(Cipher),
    /// It failed; the connection is about to be closed.
    Failed,
}

/// Seals and opens what follows the handshake.
pub(crate) struct Cipher(Box<TransportState>);

fn builder<'a>(secret: &'a [u8; 32], transcript: &'a [u8]) -> Result<Builder<'a>, snow::Error> {
    Builder::new(PATTERN.parse()?)
        .prologue(transcript)?
        .psk(0, secret)
}

impl Noise {
    /// The dialer's side, and its first message.
    pub(crate) fn dial(secret: &[u8; 32], transcript: &[u8]) -> (Noise, Vec<u8>) {
        let begin = || -> Result<_, snow::Error> {
            let mut state = builder(secret, transcript)?.build_initiator()?;
            let mut out = vec![0; 2 * TAG + 16];
            let len = state.write_message(&[], &mut out)?;
            out.truncate(len);
            Ok((Noise::Under(Box::new(state)), out))
        };
        // Without random numbers no key can be made; the greeting is then one that nobody answers.
        begin().unwrap_or_else(|_| (Noise::Failed, vec![0; 2 * TAG + 16]))
    }

    /// The acceptor's side, and its answer to the first message.
    pub(crate) fn answer(
        secret: &[u8; 32],
        transcript: &[u8],
        message: &[u8],
    ) -> Result<(Noise, Vec<u8>), Stranger> {
        let answer = || -> Result<_, snow::Error> {
            let mut state = builder(secret, transcript)?.build_responder()?;
            state.read_message(message, &mut [0; 64])?;
            let mut out = vec![0; 2 * TAG + 16];
            let len = state.write_message(&[], &mut out)?;
            out.truncate(len);
            Ok((
                Noise::Over(Cipher(Box::new(state.into_transport_mode()?))),
                out,
            ))
        };
        answer().map_err(|_| Stranger("a greeting without the secret"))
    }

    /// The dialer reads the answer, which ends the handshake.
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<(), Stranger> {
        let wrong = Stranger("an answer without the secret");
        let Noise::Under(mut state) = core::mem::replace(self, Noise::Failed) else {
            return Err(wrong);
        };
        state
            .read_message(message, &mut [0; 64])
            .map_err(|_| wrong)?;
        *self = Noise::Over(Cipher(Box::new(
            state.into_transport_mode().map_err(|_| wrong)?,
        )));
        Ok(())
    }

    /// One byte, sealed.
    pub(crate) fn seal_byte(&mut self, byte: u8) -> Vec<u8> {
        let mut out = vec![0; 1 + TAG];
        if let Noise::Over(Cipher(state)) = self {
            if state.write_message(&[byte], &mut out).is_err() {
                out.fill(0);
            }
        }
        out
    }

    pub(crate) fn open_byte(&mut self, sealed: &[u8]) -> Result<u8, Stranger> {
        let wrong = Stranger("a message without the secret, or an old one");
        let Noise::Over(Cipher(state)) = self else {
            return Err(wrong);
        };
        let mut out = [0; 1 + TAG];
        match state.read_message(sealed, &mut out) {
            Ok(1) => Ok(out[0]),
            _ => Err(wrong),
        }
    }

    pub(crate) fn into_cipher(self) -> Option<Cipher> {
        match self {
            Noise::Over(cipher) => Some(cipher),
            _ => None,
        }
    }
}

impl Cipher {
    /// Appends `plain`, at most [`RECORD`] bytes, to `out` as a record: its length, then the sealed bytes.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Stranger> {
        assert!(plain.len() <= RECORD);
        let at = out.len();
        let sealed = plain.len() + TAG;
        out.extend((sealed as u16).to_le_bytes());
        out.resize(at + 2 + sealed, 0);
        self.0
            .write_message(plain, &mut out[at + 2..])
            .map(drop)
            .map_err(|_| Stranger("the connection has carried all that one key may seal"))
    }

    /// Opens the records at the beginning of `sealed` that are complete, appends what they hold to `plain`, and tells how many bytes they were.
    pub(crate) fn open(&mut self, sealed: &[u8], plain: &mut Vec<u8>) -> Result<usize, Stranger> {
        let mut done = 0;
        while let Some(&[a, b]) = sealed.get(done..done + 2) {
            let len = u16::from_le_bytes([a, b]) as usize;
            let Some(record) = sealed.get(done + 2..done + 2 + len) else {
                break;
            };
            let at = plain.len();
            plain.resize(at + len, 0);
            let opened = self
                .0
                .read_message(record, &mut plain[at..])
                .map_err(|_| Stranger("a record that was changed, or is of another connection"))?;
            plain.truncate(at + opened);
            done += 2 + len;
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Cipher, Cipher) {
        let (mut dial, hello) = Noise::dial(&[1; 32], b"about");
        let (answer, message) = Noise::answer(&[1; 32], b"about", &hello).unwrap();
        dial.read(&message).unwrap();
        (dial.into_cipher().unwrap(), answer.into_cipher().unwrap())
    }

    #[test]
    fn records_open_in_order_at_every_cut_and_hide_what_they_hold() {
        let (mut a, mut b) = pair();
        let mut sealed = Vec::new();
        for part in [&b"payload"[..], b"", &[7; RECORD]] {
            a.seal(part, &mut sealed).unwrap();
        }
        assert!(!sealed.windows(7).any(|w| w == b"payload"));
        let mut plain = Vec::new();
        let cut = sealed.len() / 2;
        let done = b.open(&sealed[..cut], &mut plain).unwrap();
        b.open(&sealed[done..], &mut plain).unwrap();
        assert_eq!(plain.len(), 7 + RECORD);
        assert!(plain.starts_with(b"payload"));
    }

    #[test]
    fn a_changed_record_is_refused() {
        let (mut a, mut b) = pair();
        let mut sealed = Vec::new();
        a.seal(b"payload", &mut sealed).unwrap();
        sealed[9] ^= 1;
        assert!(b.open(&sealed, &mut Vec::new()).is_err());
    }
}
