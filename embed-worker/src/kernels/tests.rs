//! Every instruction set against the law, and the law against arithmetic.

use super::block::{Format, with_format};
use super::memory::BlockRows;
use super::panel::{BLOCKS, PanelSlice, Panels, panel_rows, unpack_slice};
use super::simd::{LANES, Op, Portable, ROUND, Simd, dispatch};
use super::unpack::Unpack;
use super::*;

/// A stream of numbers that looks random and is the same everywhere (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// Bytes of the f16 fields of a block of `dtype`: its scale, and its minimum if it has one.
fn f16_fields(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::F32 | DType::F16 | DType::BF16 => &[],
    }
}

/// Weights of any bits but those that are not numbers.
fn weights(numbers: &mut Numbers, dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
    let elements = rows * cols;
    match dtype {
        DType::F32 => {
            let floats = numbers.floats(elements);
            floats.into_iter().flat_map(f32::to_le_bytes).collect()
        }
        // The upper half of an f32.
        DType::BF16 => {
            let floats = numbers.floats(elements);
            floats.into_iter().flat_map(|x| [x.to_le_bytes()[2], x.to_le_bytes()[3]]).collect()
        }
        // Exponents below 15.
        DType::F16 => {
            (0..elements).flat_map(|_| ((numbers.next() as u16) & 0xbbff).to_le_bytes()).collect()
        }
        _ => {
            let blocks = elements / dtype.block_elements();
            let mut data: Vec<u8> =
                (0..blocks * dtype.block_bytes()).map(|_| numbers.next() as u8).collect();
            for block in data.chunks_exact_mut(dtype.block_bytes()) {
                for field in f16_fields(dtype) {
                    let scale = (numbers.next() as u16) & 0xbbff;
                    block[*field..][..2].copy_from_slice(&scale.to_le_bytes());
                }
            }
            data
        }
    }
}

/// A product on one instruction set, as its bits.
fn product(
    isa: Isa,
    threads: usize,
    matrix: &Matrix<'_>,
    x: &[f32],
    bias: Option<&[f32]>,
    epilogue: Epilogue,
) -> Vec<u32> {
    let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(threads));
    let mut quantized = QuantizedRows::default();
    kernels.quantize(&mut workspace, x, matrix.cols, Forms::of([matrix.dtype]), &mut quantized);
    let tokens = x.len() / matrix.cols;
    let activations = Activations { tokens, rows: x, quantized: &quantized };
    let mut out = vec![0.5; x.len() / matrix.cols * matrix.rows];
    let output = Output { out: &mut out, stride: matrix.rows, epilogue };
    let product = Product { weights: *matrix, bias };
    kernels.matmul(&mut workspace, &[product], &activations, output).expect("finite weights");
    out.into_iter().map(f32::to_bits).collect()
}

fn cols_of(dtype: DType) -> [usize; 3] {
    match dtype.block_elements() {
        1 => [5, 48, 300],
        32 => [32, 7 * 32, 320],
        block => [block, 3 * block, 2 * block],
    }
}

#[test]
fn every_instruction_set_gives_the_laws_bits() {
    let mut numbers = Numbers(1);
    for dtype in DType::ALL {
        for cols in cols_of(dtype) {
            for rows in [1, 15, 16, 17, 33] {
                let data = weights(&mut numbers, dtype, rows, cols);
                let matrix = Matrix::new(dtype, rows, cols, &data);
                let bias = numbers.floats(rows);
                for tokens in [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25] {
                    let x = numbers.floats(tokens * cols);
                    let law = product(Isa::Portable, 1, &matrix, &x, Some(&bias), Epilogue::Store);
                    for isa in Isa::all_supported() {
                        let found = product(isa, 2, &matrix, &x, Some(&bias), Epilogue::Store);
                        assert!(law == found, "{isa}: {dtype}, {rows} x {cols}, {tokens} tokens");
                    }
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_finishes_alike() {
    let mut numbers = Numbers(2);
    let data = weights(&mut numbers, DType::Q8_0, 40, 64);
    let matrix = Matrix::new(DType::Q8_0, 40, 64, &data);
    let x = numbers.floats(14 * 64);
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
        for epilogue in [Epilogue::Activate(activation), Epilogue::Gate(activation)] {
            let law = product(Isa::Portable, 1, &matrix, &x, None, epilogue);
            for isa in Isa::all_supported() {
                assert!(law == product(isa, 3, &matrix, &x, None, epilogue), "{isa}: {epilogue:?}");
            }
        }
    }
}

/// The inside of a feed-forward layer is what its products give one after the other.
#[test]
fn what_is_quantized_as_it_is_made_has_the_same_bits() {
    let mut numbers = Numbers(7);
    for (dtype, cols, inner, next) in [
        (DType::Q8_0, 64, 320, DType::Q5_1),
        (DType::Q5_0, 96, 32, DType::Q8_0),
        (DType::Q4_K, 256, 512, DType::Q6_K),
        (DType::F16, 48, 256, DType::Q2_K),
    ] {
        let data: Vec<Vec<u8>> =
            (0..2).map(|_| weights(&mut numbers, dtype, inner, cols)).collect();
        let bias = numbers.floats(inner);
        let up = Matrix::new(dtype, inner, cols, &data[0]);
        let up = Product { weights: up, bias: Some(&bias) };
        let gate = Product { weights: Matrix::new(dtype, inner, cols, &data[1]), bias: None };
        for tokens in [1, 7, 130] {
            let x = numbers.floats(tokens * cols);
            for gate in [None, Some(&gate)] {
                let activation = if gate.is_some() { Activation::Silu } else { Activation::Gelu };
                let run = |isa: Isa, threads: usize, at_once: bool| {
                    let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(threads));
                    let mut quantized = QuantizedRows::default();
                    let forms = Forms::of([dtype]);
                    kernels.quantize(&mut workspace, &x, cols, forms, &mut quantized);
                    let x = Activations { tokens, rows: &x, quantized: &quantized };
                    let (forms, mut out) = (Forms::of([next]), QuantizedRows::default());
                    if at_once {
                        let out = (forms, &mut out);
                        kernels
                            .feed_forward(&mut workspace, &up, gate, activation, &x, out)
                            .expect("finite");
                    } else {
                        let mut rows = vec![0.0; tokens * inner];
                        let both = [Some(&up), gate];
                        for (index, product) in both.into_iter().flatten().enumerate() {
                            let epilogue = match (index, gate) {
                                (0, None) => Epilogue::Activate(activation),
                                (0, Some(_)) => Epilogue::Store,
                                _ => Epilogue::Gate(activation),
                            };
                            let output = Output { out: &mut rows, stride: inner, epilogue };
                            kernels
                                .matmul(&mut workspace, &[*product], &x, output)
                                .expect("finite");
                        }
                        kernels.quantize(&mut workspace, &rows, inner, forms, &mut out);
                    }
                    let data = weights(&mut Numbers(8), next, 16, inner);
                    let product =
                        Product { weights: Matrix::new(next, 16, inner, &data), bias: None };
                    let x = Activations { tokens, rows: &[], quantized: &out };
                    let mut rows = vec![0.0; tokens * 16];
                    let output = Output { out: &mut rows, stride: 16, epilogue: Epilogue::Store };
                    kernels.matmul(&mut workspace, &[product], &x, output).expect("finite");
                    rows.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let law = run(Isa::Portable, 1, false);
                for isa in Isa::all_supported() {
                    for threads in [1, 2, 5] {
                        let found = run(isa, threads, true);
                        assert!(law == found, "{isa}: {dtype}, {tokens} tokens, {threads} threads");
                    }
                }
            }
        }
    }
}

/// Two vectors through each operation whose result is not what the nearest instruction gives.
struct Lanes {
    a: [f32; LANES],
    b: [f32; LANES],
}

impl Op for Lanes {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<u32> {
        let (a, b) = (simd.load(&self.a), simd.load(&self.b));
        let power =
            simd.add(simd.max(simd.min(a, simd.splat(9.0)), simd.splat(-9.0)), simd.splat(ROUND));
        let mut found = Vec::new();
        let mut vectors = [b; LANES];
        for lane in 0..LANES {
            vectors[lane] = simd.mul(simd.splat(self.a[lane]), b);
        }
        for lanes in [
            simd.min(a, b),
            simd.max(a, b),
            simd.fma(a, b, a),
            simd.exp2_rounded(power),
            simd.sums(&vectors),
            simd.max_lanes(&vectors),
        ] {
            let mut out = [0.0; LANES];
            simd.store(lanes, &mut out);
            found.extend(out);
        }
        found.extend([simd.sum(a), simd.min_lane(a), simd.max_lane(a)]);
        let mut bytes = [0; LANES];
        simd.store_low_bytes(power, &mut bytes);
        // One NaN is as good as another.
        let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
        found.into_iter().map(bits).chain(bytes.into_iter().map(u32::from)).collect()
    }
}

#[test]
fn every_instruction_set_has_the_laws_lanes() {
    let mut numbers = Numbers(7);
    for round in 0..2000 {
        let [mut a, mut b] = [0, 1].map(|_| [0; LANES].map(|_: i32| 10.0 * numbers.float()));
        if round % 2 == 1 {
            for lanes in [&mut a, &mut b] {
                for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0] {
                    lanes[numbers.next() as usize % LANES] = special;
                }
            }
        }
        let law = dispatch(Isa::Portable, Lanes { a, b });
        for isa in Isa::all_supported() {
            assert_eq!(law, dispatch(isa, Lanes { a, b }), "{isa}: {a:?}, {b:?}");
        }
    }
}

/// Every IEEE binary16 as a vector's lane.
struct Halves(u32);

impl Op for Halves {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> [f32; LANES] {
        let mut words = [[0; 4]; LANES];
        for (word, bits) in words.iter_mut().zip(self.0..) {
            // What stands above a half does not matter.
            *word = (bits | 0xabcd_0000).to_le_bytes();
        }
        let mut out = [0.0; LANES];
        simd.store(simd.f16s(simd.words(words)), &mut out);
        out
    }
}

#[test]
fn every_instruction_set_knows_every_f16() {
    for first in (0..1 << 16).step_by(LANES) {
        for isa in Isa::all_supported() {
            for (found, bits) in dispatch(isa, Halves(first)).into_iter().zip(first..) {
                let bits = bits as u16;
                let wanted = float::f16_to_f32(bits.to_le_bytes());
                let same = found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan();
                assert!(same, "{isa}: {bits:#06x}: {found} is not {wanted}");
            }
        }
    }
}

/// Unpacks a panel with the lanes of one instruction set.
struct UnpackPanel<'a, F: Unpack> {
    rows: BlockRows<'a, F::Block>,
    out: &'a mut PanelSlice,
}

impl<F: Unpack> Op for UnpackPanel<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let unpacked = unpack_slice::<S, F>(simd, &self.rows, 0, BLOCKS, self.out);
        unpacked.expect("finite scales");
    }
}

/// Sixteen rows at once are what the format says of each row, bit for bit.
#[test]
fn panels_hold_the_values_and_scales_of_their_rows() {
    let mut numbers = Numbers(9);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        let data = weights(&mut numbers, dtype, 16, 256);
        let matrix = Matrix::new(dtype, 16, 256, &data);
        for isa in Isa::all_supported() {
            with_format!(dtype, F => {
                let mut panels = Panels::default();
                let out = &mut panels.slices[0];
                let rows = panel_rows::<F>(&matrix, 0);
                dispatch(isa, UnpackPanel::<F> { rows, out });
                for row in 0..16 {
                    for (index, block) in F::blocks(matrix.row(row)).iter().enumerate() {
                        let scales = F::scales(Portable, block);
                        for part in 0..F::PARTS {
                            let (panel, at) = (&out.blocks[index * F::PARTS + part], (row, part));
                            for (column, value) in F::values(block, part).into_iter().enumerate() {
                                let found = panel.quads[column / 4][4 * row + column % 4];
                                assert_eq!(found, value, "{isa}: {dtype} {at:?}, {column}");
                            }
                            for half in 0..if F::HALVES { 2 } else { 1 } {
                                let number = if F::HALVES { 2 * part + half } else { part };
                                let found = panel.scales[half][row].to_bits();
                                let wanted = scales.scales[number].to_bits();
                                assert_eq!(found, wanted, "{isa}: scale of {dtype} {at:?}");
                                if F::MINIMUM {
                                    let found = panel.minimums[half][row].to_bits();
                                    let wanted = scales.minimums[number].to_bits();
                                    assert_eq!(found, wanted, "{isa}: minimum of {dtype} {at:?}");
                                }
                            }
                        }
                    }
                }
            }, plain => unreachable!("quantized types only"));
        }
    }
}

/// Weights and activations at the ends of their ranges, where 16-bit sums would saturate.
#[test]
fn extreme_values_do_not_saturate() {
    let (rows, cols) = (16, 256);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        for byte in [0x00, 0x7f, 0x80, 0x88, 0xff] {
            let mut data = vec![byte; rows * cols / dtype.block_elements() * dtype.block_bytes()];
            for block in data.chunks_exact_mut(dtype.block_bytes()) {
                for field in f16_fields(dtype) {
                    block[*field..][..2].copy_from_slice(&0x3c00_u16.to_le_bytes());
                }
            }
            let matrix = Matrix::new(dtype, rows, cols, &data);
            // Quantized to -127 and 127 only.
            let x: Vec<f32> = (0..13 * cols).map(|i| if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
            let law = product(Isa::Portable, 1, &matrix, &x, None, Epilogue::Store);
            for isa in Isa::all_supported() {
                let found = product(isa, 1, &matrix, &x, None, Epilogue::Store);
                assert!(law == found, "{isa}: {dtype} of {byte:#04x}");
            }
        }
    }
}

/// The law itself, in f64 from unpacked weights: what is lost is the activations' rounding.
#[test]
fn products_are_those_of_the_unpacked_weights() {
    let mut numbers = Numbers(3);
    let kernels = Kernels::new(Isa::Portable);
    for dtype in DType::ALL {
        let (rows, cols) = (17, cols_of(dtype)[1]);
        let data = weights(&mut numbers, dtype, rows, cols);
        let matrix = Matrix::new(dtype, rows, cols, &data);
        let x = numbers.floats(3 * cols);
        let found = product(Isa::Portable, 1, &matrix, &x, None, Epilogue::Store);
        for (index, found) in found.into_iter().enumerate() {
            let (token, row) = (index / rows, index % rows);
            let mut unpacked = vec![0.0; cols];
            kernels.dequantize_row(dtype, matrix.row(row), &mut unpacked).expect("finite weights");
            let x = &x[token * cols..][..cols];
            let (mut wanted, mut size) = (0.0, 0.0);
            for (w, x) in unpacked.iter().zip(x) {
                wanted += f64::from(*w) * f64::from(*x);
                size += f64::from(*w).powi(2);
            }
            // A step of the activations is at most 2/254, and its error at most half of that.
            let bound = size.sqrt() * (cols as f64).sqrt() / 254.0 + 1e-6;
            let error = (f64::from(f32::from_bits(found)) - wanted).abs();
            assert!(error <= bound, "{dtype}: off by {error} of {wanted}, at most {bound}");
        }
    }
}

#[test]
fn a_scale_or_weight_that_is_not_finite_is_an_error_wherever_it_stands() {
    let (rows, cols) = (20, 512);
    for dtype in DType::ALL {
        for (bad_row, bad_block) in [(0, 0), (3, 1), (15, 0), (16, 1), (19, 1)] {
            for bits in [0x7c00_u16, 0xfc00, 0x7e01] {
                let mut numbers = Numbers(4);
                let mut data = weights(&mut numbers, dtype, rows, cols);
                let row_bytes = dtype.row_bytes(cols).expect("whole blocks");
                let start = bad_row * row_bytes + bad_block * dtype.block_bytes();
                let element = match dtype {
                    DType::F32 => {
                        data[start..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
                        bad_block
                    }
                    DType::F16 => {
                        data[start..][..2].copy_from_slice(&bits.to_le_bytes());
                        bad_block
                    }
                    DType::BF16 => {
                        data[start..][..2].copy_from_slice(&0x7f80_u16.to_le_bytes());
                        bad_block
                    }
                    _ => {
                        let field = f16_fields(dtype)[0];
                        data[start + field..][..2].copy_from_slice(&bits.to_le_bytes());
                        bad_block * dtype.block_elements()
                    }
                };
                let matrix = Matrix::new(dtype, rows, cols, &data);
                let x = vec![1.0; 2 * cols];
                for isa in Isa::all_supported() {
                    let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(2));
                    let mut quantized = QuantizedRows::default();
                    kernels.quantize(&mut workspace, &x, cols, Forms::of([dtype]), &mut quantized);
                    let activations = Activations { tokens: 2, rows: &x, quantized: &quantized };
                    let mut out = vec![0.0; 2 * rows];
                    let output = Output { out: &mut out, stride: rows, epilogue: Epilogue::Store };
                    let product = Product { weights: matrix, bias: None };
                    let (_, error) = kernels
                        .matmul(&mut workspace, &[product], &activations, output)
                        .expect_err("a weight is not finite");
                    assert_eq!(error, NonFiniteWeight { row: bad_row, element }, "{isa}: {dtype}");
                    let mut row = vec![0.0; cols];
                    let error = kernels.dequantize_row(dtype, matrix.row(bad_row), &mut row);
                    assert!(error.is_err(), "{isa}: {dtype}: a row with such a weight");
                    let first = kernels.first_not_finite(dtype, &data);
                    assert_eq!(first, Some(bad_row * cols + element), "{isa}: {dtype}");
                    let sound = kernels.first_not_finite(dtype, &data[..start]);
                    assert_eq!(sound, None, "{isa}: {dtype}: before it");
                }
            }
        }
    }
}

/// Heads and sights that attention meets: full, grouped and single keys; every kind of sight.
fn attentions() -> Vec<(Heads, Sight, Vec<f32>)> {
    let heads = |queries, keys, width| Heads { queries, keys, width };
    let mut all = Vec::new();
    for heads in [heads(1, 1, 5), heads(2, 2, 16), heads(6, 2, 32), heads(2, 1, 64)] {
        for sight in [Sight::All, Sight::Back, Sight::Near(0), Sight::Near(19)] {
            all.push((heads, sight, Vec::new()));
        }
        let slopes = (1..=heads.queries).map(|head| 0.5_f32.powi(head as i32)).collect();
        all.push((heads, Sight::All, slopes));
    }
    all
}

#[test]
fn attention_norms_and_rotations_give_the_laws_bits() {
    let mut numbers = Numbers(5);
    for (heads, sight, slopes) in attentions() {
        let attention = Attention { heads, sight, slopes: &slopes };
        let hidden = heads.query_width();
        for tokens in [1, 2, 15, 16, 17, 50, 97, 201] {
            let qkv = numbers.floats(tokens * heads.row_width());
            let (weight, bias) = (numbers.floats(hidden), numbers.floats(hidden));
            let delta = numbers.floats(tokens * hidden);
            let pairs = heads.width / 2;
            let angles = numbers.floats(tokens * pairs);
            let run = |isa: Isa, threads: usize| -> Vec<u32> {
                let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(threads));
                let mut qkv = qkv.clone();
                let mut out = vec![0.0; tokens * hidden];
                let head = Norm {
                    centred: false,
                    weight: &weight[..heads.width],
                    bias: None,
                    epsilon: 1e-6,
                };
                kernels.norm_keys(&mut workspace, &mut qkv, heads, [&head, &head]);
                kernels.rope(&mut workspace, &mut qkv, heads, (&angles, &angles));
                let (rows, stride, before) = (qkv.as_slice(), heads.row_width(), hidden);
                let queries = Queries { rows, stride, first: 0 };
                let seen = (Seen::Rows { rows, stride, before }, tokens);
                kernels.attention(&mut workspace, queries, seen, &attention, &mut out);
                let (weight, bias) = (&weight, Some(bias.as_slice()));
                let norm = Norm { centred: true, weight, bias, epsilon: 1e-12 };
                kernels.norm(&mut workspace, &mut out, Some(&delta), &norm);
                kernels.add(&mut workspace, &mut out, &delta);
                out.into_iter().map(f32::to_bits).collect()
            };
            let law = run(Isa::Portable, 1);
            for isa in Isa::all_supported() {
                assert!(law == run(isa, 2), "{isa}: {heads:?}, {sight:?}, {tokens} tokens");
            }
        }
    }
}

/// Attention in f64, straight from its formula.
#[test]
fn attention_is_softmax_of_products() {
    let mut numbers = Numbers(6);
    for (heads, sight, slopes) in attentions() {
        let Heads { queries, keys, width } = heads;
        // More than the queries of one task, and no multiple of anything.
        for tokens in [1, 19, 113] {
            let qkv = numbers.floats(tokens * heads.row_width());
            let row = |token: usize| &qkv[token * heads.row_width()..];
            let query = |token, head: usize| &row(token)[head * width..][..width];
            let key = |token, head: usize| &row(token)[(queries + head) * width..][..width];
            let value =
                |token, head: usize| &row(token)[(queries + keys + head) * width..][..width];
            let mut out = vec![0.0; tokens * heads.query_width()];
            let attention = Attention { heads, sight, slopes: &slopes };
            let (rows, stride, before) = (qkv.as_slice(), heads.row_width(), heads.query_width());
            let of_rows = Queries { rows, stride, first: 0 };
            let seen = (Seen::Rows { rows, stride, before }, tokens);
            let kernels = Kernels::new(Isa::best());
            kernels.attention(&mut Workspace::new(2), of_rows, seen, &attention, &mut out);
            for (token, head) in (0..tokens).flat_map(|t| (0..queries).map(move |h| (t, h))) {
                let shared = head / (queries / keys);
                let weight = |other: usize| {
                    let distance = token.abs_diff(other);
                    let seen = match sight {
                        Sight::All => true,
                        Sight::Back => other <= token,
                        Sight::Near(reach) => distance <= reach,
                    };
                    let pairs = query(token, head).iter().zip(key(other, shared));
                    let dot: f64 = pairs.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                    let slope = slopes.get(head).map_or(0.0, |slope| f64::from(*slope));
                    let score = dot / (width as f64).sqrt() - slope * distance as f64;
                    if seen { score.exp() } else { 0.0 }
                };
                let weights: Vec<f64> = (0..tokens).map(weight).collect();
                let total: f64 = weights.iter().sum();
                for element in 0..width {
                    let of =
                        |other: usize| weights[other] * f64::from(value(other, shared)[element]);
                    let wanted = (0..tokens).map(of).sum::<f64>() / total;
                    let found = out[(token * queries + head) * width + element];
                    let near = (f64::from(found) - wanted).abs() < 1e-5;
                    assert!(near, "{heads:?}, {sight:?}, {token}, {head}: {found}, {wanted}");
                }
            }
        }
    }
}

/// Rows of queries, and rows of keys and values, of what stands side by side in `qkv`.
fn apart(qkv: &[f32], heads: Heads) -> [Vec<f32>; 2] {
    let rows = || qkv.chunks_exact(heads.row_width());
    let width = heads.query_width();
    let queries = rows().flat_map(|row| &row[..width]).copied();
    let keys_values = rows().flat_map(|row| &row[width..]).copied();
    [queries.collect(), keys_values.collect()]
}

#[test]
fn attention_by_tiles_and_of_single_tokens_gives_the_same_bits() {
    let mut numbers = Numbers(8);
    for (heads, sight, slopes) in attentions() {
        let attention = Attention { heads, sight, slopes: &slopes };
        let (width, row) = (heads.query_width(), heads.row_width());
        for tokens in [1, 31, 64, 201] {
            let qkv = numbers.floats(tokens * row);
            let [queries, keys_values] = apart(&qkv, heads);
            let (kernels, mut workspace) = (Kernels::new(Isa::best()), Workspace::new(2));
            let mut whole = vec![0.0; tokens * width];
            let seen = Seen::Rows { rows: &qkv, stride: row, before: width };
            let all = Queries { rows: &qkv, stride: row, first: 0 };
            kernels.attention(&mut workspace, all, (seen, tokens), &attention, &mut whole);
            for tile in [16, 48, 256] {
                let mut laid = KeyValues::default();
                laid.reset(heads, tokens, tile);
                let stride = 2 * heads.key_width();
                for (index, rows) in keys_values.chunks(tile * stride).enumerate() {
                    kernels.lay_out(&mut workspace, rows, index, &mut laid);
                }
                // Tiles of queries, and each query by itself against rows and against what is laid out.
                for by in [tile, 1] {
                    let rows = Seen::Rows { rows: &keys_values, stride, before: 0 };
                    for seen in [Seen::Laid(&laid), rows] {
                        let mut out = vec![0.0; tokens * width];
                        let parts = queries.chunks(by * width).zip(out.chunks_mut(by * width));
                        for (index, (rows, out)) in parts.enumerate() {
                            let queries = Queries { rows, stride: width, first: index * by };
                            let seen = (seen, tokens);
                            kernels.attention(&mut workspace, queries, seen, &attention, out);
                        }
                        let same = out.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{heads:?}, {sight:?}, {tokens} tokens by {tile} and {by}");
                    }
                }
            }
        }
    }
}
