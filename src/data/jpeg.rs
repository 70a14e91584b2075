//! A walk over the segments of a JPEG file, to tell a whole file from a cut one before decoding.
//!
//! The decoder fills what is missing with grey and reports success, which would train on garbage silently.

/// More scans than any encoder writes; each costs the decoder a pass over the whole picture.
const MOST_SCANS: usize = 256;

/// Checks that the file runs through to its end-of-image marker; the error says what is wrong.
pub fn check_complete(bytes: &[u8]) -> Result<(), String> {
    let mut at = 2; // behind the start-of-image marker
    let mut scans = 0;
    while let Some((marker, next)) = next_marker(bytes, at) {
        at = next;
        match marker {
            0xd9 => return finished(scans),
            0x01 | 0xd0..=0xd8 => continue, // markers without a body
            _ => {}
        }
        let Some(&[high, low]) = bytes.get(at..at + 2) else { break };
        at += usize::from(u16::from_be_bytes([high, low])).max(2);
        if marker == 0xda {
            scans += 1;
            if scans > MOST_SCANS {
                return Err(format!("more than {MOST_SCANS} scans"));
            }
        }
    }
    Err(format!("it is cut off: {} bytes without an end-of-image marker", bytes.len()))
}

fn finished(scans: usize) -> Result<(), String> {
    if scans == 0 { Err("it ends before any picture data".into()) } else { Ok(()) }
}

/// The next marker at or after `at` and the position behind it. Inside of entropy-coded data a 255 is followed
/// by 0 (a stuffed byte) and restart markers have no body, so both are passed over.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = bytes.get(at..)?;
    let found =
        rest.windows(2).position(|w| matches!(w, &[0xff, m] if !matches!(m, 0 | 0xff | 0xd0..=0xd7)))?;
    Some((*rest.get(found + 1)?, at + found + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_cut() {
        let file = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 0xff, 0xd9, 0xff, 0xda, 0, 2, 1, 0xff, 0, 2, 0xff, 0xd9];
        assert_eq!(check_complete(&file), Ok(()));
        for end in 0..file.len() {
            assert!(check_complete(&file[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn too_many_scans() {
        let mut file = vec![0xff, 0xd8];
        file.extend([0xff, 0xda, 0, 2, 7].repeat(1000));
        file.extend([0xff, 0xd9]);
        assert!(check_complete(&file).is_err_and(|e| e.contains("scans")));
    }
}
