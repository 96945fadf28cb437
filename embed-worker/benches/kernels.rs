//! Products and attention, on every instruction set of this processor, with criterion's statistics.
//!
//! ```sh
//! cargo bench -p embed-worker --bench kernels                        # all
//! cargo bench -p embed-worker --bench kernels -- 'avx512vnni/Q4_K'   # whose name contains that
//! ```
//!
//! `embed-worker bench` measures the products of a real model beside the machine's limits instead.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use embed_worker::kernels::{
    Activations, Attention, Buffer, DType, Epilogue, Forms, Heads, Isa, Kernels, Matrix, Output,
    Product, QuantizedRows, Queries, Seen, Sight, Workspace,
};

const ROWS: usize = 768;
const COLS: usize = 768;

/// Blocks of any bits with scales of 1.
fn weights(dtype: DType) -> Vec<u8> {
    let bytes = dtype.row_bytes(COLS).expect("whole blocks") * ROWS;
    let mut data: Vec<u8> = (0..bytes).map(|i| (i * 7919 % 251) as u8).collect();
    let fields: &[usize] = match dtype {
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        _ => &[0],
    };
    for block in data.chunks_exact_mut(dtype.block_bytes()) {
        for field in fields {
            block[*field..][..2].copy_from_slice(&0x3c00_u16.to_le_bytes());
        }
    }
    data
}

fn products(criterion: &mut Criterion) {
    for isa in Isa::all_supported().into_iter().filter(|isa| *isa != Isa::Portable) {
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
            let data = weights(dtype);
            let weights = Matrix::new(dtype, ROWS, COLS, &data);
            let mut group = criterion.benchmark_group(format!("{isa}/{dtype}"));
            for tokens in [1, 12, 64, 256] {
                let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(1));
                let x: Vec<f32> = (0..tokens * COLS).map(|i| (i % 17) as f32 - 8.0).collect();
                let mut quantized = QuantizedRows::default();
                kernels.quantize(&mut workspace, &x, COLS, Forms::of([dtype]), &mut quantized);
                let x = Activations { tokens, rows: &x, quantized: &quantized };
                let mut out = Buffer::default();
                out.grow(tokens * ROWS);
                // Elements are multiplications and additions.
                group.throughput(Throughput::Elements((tokens * ROWS * COLS) as u64));
                group.bench_function(BenchmarkId::from_parameter(tokens), |bencher| {
                    bencher.iter(|| {
                        let epilogue = Epilogue::Store;
                        let output = Output { out: &mut out, stride: ROWS, epilogue };
                        let product = Product { weights, bias: None };
                        kernels.matmul(&mut workspace, &[product], &x, output).expect("finite");
                    });
                });
            }
            group.finish();
        }
    }
}

fn attention(criterion: &mut Criterion) {
    let heads = Heads { queries: 12, keys: 12, width: 64 };
    let attention = Attention { heads, sight: Sight::All, slopes: &[] };
    let hidden = heads.query_width();
    for isa in Isa::all_supported().into_iter().filter(|isa| *isa != Isa::Portable) {
        let mut group = criterion.benchmark_group(format!("{isa}/attention"));
        for tokens in [12, 64, 256, 512] {
            let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(1));
            let qkv: Vec<f32> = (0..tokens * 3 * hidden).map(|i| (i % 13) as f32 * 0.1).collect();
            let mut out = vec![0.0; tokens * hidden];
            group.throughput(Throughput::Elements((2 * tokens * tokens * hidden) as u64));
            let (rows, stride, before) = (qkv.as_slice(), heads.row_width(), hidden);
            let queries = Queries { rows, stride, first: 0 };
            let seen = (Seen::Rows { rows, stride, before }, tokens);
            group.bench_function(BenchmarkId::from_parameter(tokens), |bencher| {
                bencher.iter(|| {
                    kernels.attention(&mut workspace, queries, seen, &attention, &mut out);
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, products, attention);
criterion_main!(benches);
