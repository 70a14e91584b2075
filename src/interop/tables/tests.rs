use super::*;

/// Values of q and of the outermost positions, beit-spec §6.5.
#[test]
fn progression_is_the_published_one() {
    for (grid, q, outermost) in [
        (16usize, 1.023493, 15.0),
        (20, 1.060968, 19.0),
        (24, 1.090307, 23.0),
        (32, 1.134918, 31.0),
        (40, 1.168504, 39.0),
    ] {
        let x = geometric_positions(27, 2 * grid - 1);
        assert_eq!((x.len(), x[13], x[14]), (27, 0.0, 1.0));
        assert!((x[15] - 1.0 - q).abs() < 2e-6, "{grid}: {}", x[15] - 1.0);
        assert!((x[26] - outermost).abs() < 1e-3, "{grid}: {}", x[26]);
        assert_eq!(x[0], -x[26]);
    }
}

/// Cubics along each axis, sampled at the source positions, come out at the integers; the centre stays.
#[test]
fn cubic_polynomials_are_reproduced() {
    let (from, to) = ((14, 14), (24, 24));
    let x = geometric_positions(27, 47);
    let p = |r: f64, c: f64| {
        (1.0 + 0.3 * r - 0.02 * r * r + 0.001 * r * r * r) * (0.5 - 0.1 * c + 0.003 * c * c * c)
    };
    let mut table: Vec<f32> = x.iter().flat_map(|&r| x.iter().map(move |&c| p(r, c) as f32)).collect();
    let centre = table[13 * 27 + 13];
    table.extend([7.0, 8.0, 9.0]);
    let out = resize_relative(&table, 1, from, to, Resize::Geometric).unwrap();
    assert_eq!(out.len(), table_rows(to));
    assert_eq!(out[out.len() - 3..], [7.0, 8.0, 9.0]);
    assert!((out[23 * 47 + 23] - centre).abs() < 1e-6);
    let last = x[26];
    for (i, &got) in out[..47 * 47].iter().enumerate() {
        let at = |k: usize| (k as f64 - 23.0).clamp(-last, last);
        let want = p(at(i / 47), at(i % 47));
        assert!((f64::from(got) - want).abs() < 2e-4 * want.abs().max(1.0), "{i}: {got} {want}");
    }
}

#[test]
fn every_way_keeps_constants_lines_and_the_same_grid() {
    for how in [Resize::Geometric, Resize::GeometricLinear, Resize::Uniform] {
        for (from, to) in
            [((1, 1), (3, 3)), ((2, 2), (5, 4)), ((3, 5), (5, 3)), ((4, 4), (2, 2)), ((14, 14), (40, 40))]
        {
            let table = vec![2.5f32; 2 * table_rows(from)];
            let out = resize_relative(&table, 2, from, to, how).unwrap();
            assert_eq!(out.len(), 2 * table_rows(to));
            assert!(out.iter().all(|v| (v - 2.5).abs() < 1e-5), "{how} {from:?} {to:?}");
        }
        let table: Vec<f32> = (0..2 * table_rows((3, 4))).map(|i| (i as f32).sin()).collect();
        assert_eq!(resize_relative(&table, 2, (3, 4), (3, 4), how).unwrap(), table);
    }
    assert!(resize_relative(&[0.0; 5], 1, (2, 2), (3, 3), Resize::Geometric).is_err());
}

/// A 4-point row enlarged to 8 by `torch.nn.functional.interpolate` with `align_corners=False`.
#[test]
fn even_spacing_agrees_with_torch() {
    let mapped = |axis: Axis, v: [f64; 4]| -> Vec<f64> {
        axis.iter().map(|row| row.iter().zip(v).map(|(w, x)| w * x).sum()).collect()
    };
    let close = |got: Vec<f64>, want: [f64; 8]| {
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?} {want:?}");
    };
    let v = [1.0, 2.0, 4.0, -1.0];
    close(mapped(bilinear_axis(4, 8), v), [1.0, 1.25, 1.75, 2.5, 3.5, 2.75, 0.25, -1.0]);
    let out = resize_absolute(&[9.0, 1.0, 2.0, 3.0, 4.0], 1, (2, 2), (2, 2)).unwrap();
    assert_eq!(out, [9.0, 1.0, 2.0, 3.0, 4.0]);
    close(mapped(bicubic_axis(4, 8), v), BICUBIC);
}

const BICUBIC: [f64; 8] = [0.89453125, 1.15625, 1.5625, 2.734375, 4.109375, 3.078125, 0.203125, -1.52734375];
