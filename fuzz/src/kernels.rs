//! Any weights and activations: every instruction set of this machine gives the law's bits, and a
//! weight that is not finite is an error on all of them.

use arbitrary::{Result, Unstructured};
use embed_worker::kernels::{
    Activation, Activations, Attention, DType, Epilogue, Forms, Heads, Isa, Kernels, Matrix,
    NonFiniteWeight, Norm, Output, Product, QuantizedRows, Queries, Seen, Sight, Workspace,
};

/// Rows of weights at most: two tasks and a tail.
const ROWS_MAX: usize = 70;

/// Blocks of a row at most: slices of 256 columns, and a tail for formats of 32.
const BLOCKS_MAX: usize = 11;

/// The same for formats of 256.
const LARGE_BLOCKS_MAX: usize = 3;

/// Columns at most for formats without blocks.
const PLAIN_COLS_MAX: usize = 300;

/// Rows of activations at most: two tiles of every instruction set and a tail.
const TOKENS_MAX: usize = 14;

/// Sizes and bytes from the input; what it does not have is repeated.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // An input that ends early is filled up with zeros; an error cannot come of these types.
    let _ = if matches!(input.arbitrary(), Ok(true)) {
        check_rows(&mut input)
    } else {
        check_product(&mut input)
    };
}

/// A product with weights of any bytes.
fn check_product(input: &mut Unstructured<'_>) -> Result<()> {
    let dtype = *input.choose(&DType::ALL)?;
    let cols = match dtype.block_elements() {
        1 => input.int_in_range(1..=PLAIN_COLS_MAX)?,
        32 => 32 * input.int_in_range(1..=BLOCKS_MAX)?,
        block => block * input.int_in_range(1..=LARGE_BLOCKS_MAX)?,
    };
    let rows = input.int_in_range(1..=ROWS_MAX)?;
    let tokens = input.int_in_range(1..=TOKENS_MAX)?;
    let epilogue = *input.choose(&[
        Epilogue::Store,
        Epilogue::Activate(Activation::Gelu),
        Epilogue::Gate(Activation::Silu),
    ])?;
    let (mend, with_bias): (bool, bool) = (input.ratio(3, 4)?, input.arbitrary()?);
    let x = Pattern::take(input, 64).floats(tokens * cols);
    let bias = Pattern::take(input, 16).floats(rows);
    let row_bytes = dtype.row_bytes(cols).expect("whole blocks");
    let mut data = Pattern::take(input, usize::MAX).bytes(rows * row_bytes);
    let law = Kernels::new(Isa::Portable);
    let bad = bad_rows(law, dtype, cols, &mut data, mend);
    let matrix = Matrix::new(dtype, rows, cols, &data);
    let product = Product { weights: matrix, bias: with_bias.then_some(bias.as_slice()) };
    let wanted = multiply(law, &product, &x, epilogue);
    match &wanted {
        Ok(_) => assert!(bad.is_empty(), "a weight of rows {bad:?} is not finite"),
        Err(NonFiniteWeight { row, element }) => {
            assert!(bad.contains(row) && *element < cols, "{dtype}: {row}, {element}: {bad:?}");
        }
    }
    for isa in Isa::all_supported() {
        let kernels = Kernels::new(isa);
        let found = multiply(kernels, &product, &x, epilogue);
        assert!(found == wanted, "{isa}: {dtype}, {rows} x {cols}, {tokens} tokens, {epilogue:?}");
        assert_eq!(bad_rows(kernels, dtype, cols, &mut data.clone(), false), bad, "{isa}: {dtype}");
    }
    Ok(())
}

/// The rows with a weight that is not finite. With `mend`, blocks of such weights are zeroed first.
fn bad_rows(
    kernels: Kernels,
    dtype: DType,
    cols: usize,
    data: &mut [u8],
    mend: bool,
) -> Vec<usize> {
    let (mut out, mut bad) = (vec![0.0; cols], Vec::new());
    let row_bytes = dtype.row_bytes(cols).expect("whole blocks");
    for (row, bytes) in data.chunks_exact_mut(row_bytes).enumerate() {
        while let Err(error) = kernels.dequantize_row(dtype, bytes, &mut out) {
            if !mend {
                bad.push(row);
                break;
            }
            let block = error.element / dtype.block_elements() * dtype.block_bytes();
            bytes[block..][..dtype.block_bytes()].fill(0);
        }
    }
    bad
}

/// The product's bits and which activations were not finite.
fn multiply(
    kernels: Kernels,
    product: &Product<'_>,
    x: &[f32],
    epilogue: Epilogue,
) -> std::result::Result<(Vec<u32>, Vec<bool>), NonFiniteWeight> {
    let (dtype, rows, cols) = product.weights.shape();
    let tokens = x.len() / cols;
    let (mut workspace, mut quantized) = (Workspace::new(1), QuantizedRows::default());
    kernels.quantize(&mut workspace, x, cols, Forms::of([dtype]), &mut quantized);
    let mut broken = vec![false; tokens];
    quantized.mark_broken(&mut broken);
    let activations = Activations { tokens, rows: x, quantized: &quantized };
    let mut out = vec![0.5; tokens * rows];
    let output = Output { out: &mut out, stride: rows, epilogue };
    kernels
        .matmul(&mut workspace, &[*product], &activations, output)
        .map(|()| (bits(&out), broken))
        .map_err(|(_, error)| error)
}

/// Attention, rotations and norms of any numbers.
fn check_rows(input: &mut Unstructured<'_>) -> Result<()> {
    let keys = input.int_in_range(1..=3)?;
    let width = input.int_in_range(1..=70)?;
    let tokens = input.int_in_range(1..=40)?;
    let heads = Heads { queries: keys * input.int_in_range(1..=2)?, keys, width };
    let sight = match input.int_in_range(0..=2)? {
        0 => Sight::All,
        1 => Sight::Back,
        _ => Sight::Near(input.int_in_range(0..=20)?),
    };
    let hidden = heads.query_width();
    let rotate = width % 2 == 0 && input.arbitrary()?;
    let angles = Pattern::take(input, 16).floats(tokens * (width / 2));
    let weight = Pattern::take(input, 16).floats(hidden);
    let delta = Pattern::take(input, 32).floats(tokens * hidden);
    let qkv = Pattern::take(input, usize::MAX).floats(tokens * heads.row_width());
    let run = |isa: Isa| {
        let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(1));
        let (mut qkv, mut out) = (qkv.clone(), vec![0.0; tokens * hidden]);
        if rotate {
            kernels.rope(&mut workspace, &mut qkv, heads, (&angles, &angles));
        }
        let attention = Attention { heads, sight, slopes: &[] };
        let (rows, stride, before) = (qkv.as_slice(), heads.row_width(), hidden);
        let queries = Queries { rows, stride, first: 0 };
        let seen = (Seen::Rows { rows, stride, before }, tokens);
        kernels.attention(&mut workspace, queries, seen, &attention, &mut out);
        let attended = bits(&out);
        let (weight, bias) = (&weight, Some(weight.as_slice()));
        let norm = Norm { centred: true, weight, bias, epsilon: 1e-12 };
        kernels.norm(&mut workspace, &mut out, Some(&delta), &norm);
        (attended, bits(&out))
    };
    let law = run(Isa::Portable);
    for isa in Isa::all_supported() {
        assert!(run(isa) == law, "{isa}: {heads:?}, {sight:?}, {tokens} tokens");
    }
    Ok(())
}

/// Bits, but that one NaN is as good as another.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { f32::NAN } else { *value }.to_bits()).collect()
}

/// Some bytes, repeated with a change, so that a short input has many values.
struct Pattern<'a>(&'a [u8]);

impl<'a> Pattern<'a> {
    fn take(input: &mut Unstructured<'a>, bytes: usize) -> Self {
        let bytes = bytes.min(input.len());
        Self(input.bytes(bytes).unwrap_or_default())
    }

    fn bytes(&self, count: usize) -> Vec<u8> {
        let period = self.0.len().max(1);
        let at = |index: usize| self.0.get(index % period).copied().unwrap_or_default();
        (0..count).map(|index| at(index).wrapping_add((index / period * 29) as u8)).collect()
    }

    /// Numbers of moderate size from two bytes each; where both are the same and odd, any upper half
    /// of an f32 at all.
    fn floats(&self, count: usize) -> Vec<f32> {
        let bytes = self.bytes(2 * count);
        let number = |pair: &[u8; 2]| match *pair {
            [low, high] if low == high && low % 2 == 1 => {
                f32::from_bits(u32::from(u16::from_le_bytes([low, high.rotate_left(4)])) << 16)
            }
            [low, high] => f32::from(i16::from_le_bytes([low, high])) / 4096.0,
        };
        bytes.as_chunks::<2>().0.iter().map(number).collect()
    }
}
