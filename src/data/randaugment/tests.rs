use super::*;
use crate::rng::Stream;

fn key(i: u32) -> Key {
    Key::new(3, Stream::Augment, i)
}

fn scene() -> Picture {
    let rgb = (0..24 * 16 * 3).map(|i| ((i * i / 5 + i) % 251) as u8).collect();
    Picture { width: 24, height: 16, rgb }
}

fn run(operation: Operation, magnitude: f64, picture: &Picture) -> Picture {
    operation.apply(picture, magnitude, [9, 9, 9], &mut key(0).draws())
}

/// Operations that scale with the magnitude do nothing at 0, except for posterize, which keeps 4 bits even then.
#[test]
fn magnitude_zero() {
    let p = scene();
    for operation in Operation::ALL {
        let same = run(operation, 0.0, &p) == p;
        let fixed = [Operation::AutoContrast, Operation::Equalize, Operation::Invert, Operation::Posterize];
        assert_eq!(same, !fixed.contains(&operation), "{operation:?}");
    }
}

/// Values that follow from the definitions.
#[test]
fn known_values() {
    let p = Picture { width: 4, height: 1, rgb: [10, 100, 130, 250].iter().flat_map(|&v| [v; 3]).collect() };
    let grey = |o: Operation, m: f64| run(o, m, &p).rgb.chunks(3).map(|c| c[0]).collect::<Vec<_>>();
    assert_eq!(grey(Operation::Invert, 5.0), [245, 155, 125, 5]);
    assert_eq!(grey(Operation::AutoContrast, 5.0), [0, 95, 127, 255]);
    // 256 − int(256·0.9) = 26
    assert_eq!(grey(Operation::Solarize, 9.0), [10, 155, 125, 5]);
    assert_eq!(grey(Operation::SolarizeAdd, 9.0), [109, 199, 130, 250]);
    // 4 − int(3.6) = 1 bit
    assert_eq!(grey(Operation::Posterize, 9.0), [0, 0, 128, 128]);
    assert_eq!(grey(Operation::Posterize, 10.0), [0; 4]);
    // four pixels spread over fewer than 255 steps: unchanged
    assert_eq!(grey(Operation::Equalize, 5.0), [10, 100, 130, 250]);
}

#[test]
fn equalize_flattens() {
    let rgb: Vec<u8> = (0..64 * 64).flat_map(|i| [(i % 16) as u8 + 100; 3]).collect();
    let out = run(Operation::Equalize, 5.0, &Picture { width: 64, height: 64, rgb });
    let (low, high) = (out.rgb.iter().min(), out.rgb.iter().max());
    assert!(low < Some(&20) && high > Some(&235), "{low:?} to {high:?}");
}

#[test]
fn movements_follow_their_map() {
    let p = scene();
    let moved = transform(&p, Affine([1.0, 0.0, 3.0, 0.0, 1.0, -2.0]), [1, 2, 3]);
    for y in 0..16usize {
        for x in 0..24usize {
            let at = (y * 24 + x) * 3;
            let want: &[u8] = if x + 3 < 24 && y >= 2 {
                let from = ((y - 2) * 24 + x + 3) * 3;
                &p.rgb[from..from + 3]
            } else {
                &[1, 2, 3]
            };
            assert_eq!(&moved.rgb[at..at + 3], want, "{x}, {y}");
        }
    }
}

/// A quarter turn of a square is exact: counter-clockwise, the right edge becomes the top.
#[test]
fn quarter_turn() {
    let p = Picture { width: 16, height: 16, rgb: scene().rgb[..16 * 16 * 3].to_vec() };
    let turned = transform(&p, Affine::rotation(90.0, 16.0, 16.0), [0; 3]);
    let pixel = |p: &Picture, x: usize, y: usize| p.rgb[(y * 16 + x) * 3..][..3].to_vec();
    let close = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1);
    for y in 1..15 {
        for x in 1..15 {
            assert!(close(&pixel(&turned, x, y), &pixel(&p, 15 - y, x)), "{x}, {y}");
        }
    }
}

#[test]
fn draws_follow_the_recipe() {
    let p = scene();
    let augment = RandAugment::PUBLISHED;
    let changed = (0..400).filter(|&i| augment.apply(p.clone(), [0; 3], key(i)) != p).count();
    // two operations at probability 1/2 leave a quarter alone
    assert!((270..=330).contains(&changed), "{changed} of 400 changed");
    assert_eq!(augment.apply(p.clone(), [0; 3], key(7)), augment.apply(p.clone(), [0; 3], key(7)));
    let off = RandAugment { operations: 0, ..augment };
    assert_eq!(off.apply(p.clone(), [0; 3], key(7)), p);
    let tiny = Picture { width: 1, height: 1, rgb: vec![4, 5, 6] };
    let all = RandAugment { operations: 40, probability: 1.0, ..augment };
    assert_eq!(all.apply(tiny, [0; 3], key(1)).rgb.len(), 3);
}

#[test]
fn wrong_settings_name_their_key() {
    let at = |r: RandAugment| r.validate().err().and_then(|e| e.at);
    assert_eq!(at(RandAugment::PUBLISHED), None);
    let r = RandAugment { magnitude: 11.0, ..RandAugment::PUBLISHED };
    assert_eq!(at(r).as_deref(), Some("randaugment.magnitude"));
    let r = RandAugment { probability: f64::NAN, ..RandAugment::PUBLISHED };
    assert_eq!(at(r).as_deref(), Some("randaugment.probability"));
}
