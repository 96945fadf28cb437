//! Provisional portable kernels.
#![allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]
use super::DType;
use crate::threads::Pool;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    Portable,
}
impl Isa {
    pub fn best() -> Self {
        Self::Portable
    }
    pub fn all_supported() -> Vec<Self> {
        vec![Self::Portable]
    }
}
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    isa: Isa,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantizeMode {
    Affine,
    Symmetric,
}
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
    pub data: &'a [u8],
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row}, element {element}: not finite")]
pub struct NonFiniteWeight {
    pub row: usize,
    pub element: usize,
}
#[derive(Debug, Default)]
pub struct QuantizedRows {
    q: Vec<i8>,
    d: Vec<f32>,
    m: Vec<f32>,
    x: Vec<[f32; 2]>,
    sx: Vec<f32>,
    pub bad: Vec<bool>,
    cols: usize,
}

fn f16(b: [u8; 2]) -> f32 {
    let h = u16::from_le_bytes(b);
    let s = (h >> 15) as u32;
    let e = ((h >> 10) & 31) as u32;
    let m = (h & 1023) as u32;
    if e == 31 {
        f32::from_bits(s << 31 | 0xff << 23 | m << 13)
    } else if e == 0 {
        let v = m as f32 * (1.0 / 16777216.0);
        if s == 1 { -v } else { v }
    } else {
        f32::from_bits(s << 31 | (e + 112) << 23 | m << 13)
    }
}
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
pub struct Group {
    q: [i8; 32],
    s: [f32; 2],
    b: [f32; 2],
    half: bool,
    min: bool,
}
fn k4(j: usize, q: &[u8]) -> (u8, u8) {
    if j < 4 {
        (q[j] & 63, q[j + 4] & 63)
    } else {
        ((q[j + 4] & 15) | ((q[j - 4] >> 6) << 4), (q[j + 4] >> 4) | ((q[j] >> 6) << 4))
    }
}
pub fn group(t: DType, row: &[u8], g: usize) -> Group {
    let mut r = Group { q: [0; 32], s: [0.0; 2], b: [0.0; 2], half: false, min: false };
    let bb = t.block_bytes();
    if t.block_elements() == 32 {
        let b = &row[g * bb..][..bb];
        let d = f16([b[0], b[1]]);
        r.s = [d, d];
        match t {
            DType::Q8_0 => {
                for i in 0..32 {
                    r.q[i] = b[2 + i] as i8;
                }
            }
            DType::Q4_0 => {
                for i in 0..16 {
                    r.q[i] = (b[2 + i] & 15) as i8 - 8;
                    r.q[i + 16] = (b[2 + i] >> 4) as i8 - 8;
                }
            }
            DType::IQ4_NL => {
                for i in 0..16 {
                    r.q[i] = IQ4[(b[2 + i] & 15) as usize];
                    r.q[i + 16] = IQ4[(b[2 + i] >> 4) as usize];
                }
            }
            DType::Q4_1 => {
                let m = f16([b[2], b[3]]);
                r.b = [m, m];
                r.min = true;
                for i in 0..16 {
                    r.q[i] = (b[4 + i] & 15) as i8;
                    r.q[i + 16] = (b[4 + i] >> 4) as i8;
                }
            }
            DType::Q5_0 => {
                let h = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
                for i in 0..16 {
                    r.q[i] = ((b[6 + i] & 15) | (((h >> i) & 1) << 4) as u8) as i8 - 16;
                    r.q[i + 16] = ((b[6 + i] >> 4) | (((h >> (i + 16)) & 1) << 4) as u8) as i8 - 16;
                }
            }
            DType::Q5_1 => {
                let m = f16([b[2], b[3]]);
                r.b = [m, m];
                r.min = true;
                let h = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
                for i in 0..16 {
                    r.q[i] = ((b[8 + i] & 15) | (((h >> i) & 1) << 4) as u8) as i8;
                    r.q[i + 16] = ((b[8 + i] >> 4) | (((h >> (i + 16)) & 1) << 4) as u8) as i8;
                }
            }
            _ => unreachable!(),
        }
    } else {
        let b = &row[g / 8 * bb..][..bb];
        let j = g % 8;
        match t {
            DType::Q4_K => {
                let d = f16([b[0], b[1]]);
                let dm = f16([b[2], b[3]]);
                let (s, m) = k4(j, &b[4..16]);
                r.s = [d * s as f32; 2];
                r.b = [-(dm * m as f32); 2];
                r.min = true;
                let qs = &b[16..];
                for i in 0..32 {
                    let v = qs[j / 2 * 32 + i];
                    r.q[i] = (if j % 2 == 0 { v & 15 } else { v >> 4 }) as i8;
                }
            }
            DType::Q5_K => {
                let d = f16([b[0], b[1]]);
                let dm = f16([b[2], b[3]]);
                let (s, m) = k4(j, &b[4..16]);
                r.s = [d * s as f32; 2];
                r.b = [-(dm * m as f32); 2];
                r.min = true;
                let qh = &b[16..48];
                let qs = &b[48..];
                for i in 0..32 {
                    let v = qs[j / 2 * 32 + i];
                    r.q[i] = ((if j % 2 == 0 { v & 15 } else { v >> 4 })
                        | (((qh[i] >> j) & 1) << 4)) as i8;
                }
            }
            DType::Q6_K => {
                let d = f16([b[208], b[209]]);
                let n = j / 4;
                let l4 = j % 4;
                let ql = &b[64 * n..];
                let qh = &b[128 + 32 * n..];
                let sc = &b[192 + 8 * n..];
                for i in 0..32 {
                    let lo = match l4 {
                        0 => ql[i] & 15,
                        1 => ql[i + 32] & 15,
                        2 => ql[i] >> 4,
                        _ => ql[i + 32] >> 4,
                    };
                    r.q[i] = ((lo | (((qh[i] >> (2 * l4)) & 3) << 4)) as i8) - 32;
                }
                r.half = true;
                for h in 0..2 {
                    r.s[h] = d * (sc[2 * l4 + h] as i8) as f32;
                }
            }
            DType::Q2_K => {
                let d = f16([b[80], b[81]]);
                let dm = f16([b[82], b[83]]);
                let n = j / 4;
                for i in 0..32 {
                    r.q[i] = ((b[16 + 32 * n + i] >> (2 * (j % 4))) & 3) as i8;
                }
                r.half = true;
                r.min = true;
                for h in 0..2 {
                    let s = b[2 * j + h];
                    r.s[h] = d * (s & 15) as f32;
                    r.b[h] = -(dm * (s >> 4) as f32);
                }
            }
            DType::Q3_K => {
                let d = f16([b[108], b[109]]);
                let n = j / 4;
                for i in 0..32 {
                    let lo = ((b[32 + 32 * n + i] >> (2 * (j % 4))) & 3) as i8;
                    let hi = (b[i] >> j) & 1;
                    r.q[i] = lo - if hi == 0 { 4 } else { 0 };
                }
                r.half = true;
                for h in 0..2 {
                    let k = 2 * j + h;
                    let s = &b[96..108];
                    let lo = if k < 8 { s[k] & 15 } else { s[k - 8] >> 4 };
                    let hi = (s[8 + k % 4] >> (2 * (k / 4))) & 3;
                    r.s[h] = d * ((lo | (hi << 4)) as i8 - 32) as f32;
                }
            }
            DType::IQ4_XS => {
                let d = f16([b[0], b[1]]);
                let sh = u16::from_le_bytes([b[2], b[3]]);
                let lo = (b[4 + j / 2] >> (4 * (j % 2))) & 15;
                let hi = ((sh >> (2 * j)) & 3) as u8;
                r.s = [d * ((lo | (hi << 4)) as i8 - 32) as f32; 2];
                for i in 0..16 {
                    let v = b[8 + 16 * j + i];
                    r.q[i] = IQ4[(v & 15) as usize];
                    r.q[i + 16] = IQ4[(v >> 4) as usize];
                }
            }
            _ => unreachable!(),
        }
    }
    r
}
fn plain(t: DType, b: &[u8], i: usize) -> f32 {
    match t {
        DType::F32 => f32::from_le_bytes([b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]]),
        DType::F16 => f16([b[2 * i], b[2 * i + 1]]),
        DType::BF16 => f32::from_bits((u16::from_le_bytes([b[2 * i], b[2 * i + 1]]) as u32) << 16),
        _ => unreachable!(),
    }
}
pub fn dequantize_row(t: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), NonFiniteWeight> {
    if t.block_elements() == 1 {
        for i in 0..out.len() {
            out[i] = plain(t, bytes, i);
            if !out[i].is_finite() {
                return Err(NonFiniteWeight { row: 0, element: i });
            }
        }
        return Ok(());
    }
    for g in 0..out.len() / 32 {
        let r = group(t, bytes, g);
        if !(r.s.iter().chain(&r.b).all(|v| v.is_finite())) {
            return Err(NonFiniteWeight { row: 0, element: g * 32 });
        }
        for i in 0..32 {
            let h = i / 16;
            out[g * 32 + i] = r.s[h] * r.q[i] as f32 + r.b[h];
        }
    }
    Ok(())
}
pub struct Activations<'a> {
    pub rows: &'a [f32],
    pub quantized: &'a QuantizedRows,
}
impl Kernels {
    pub fn new(isa: Isa) -> Self {
        Self { isa }
    }
    pub fn name(&self) -> &'static str {
        "portable"
    }
    pub fn quantize_rows(&self, x: &[f32], cols: usize, mode: QuantizeMode, o: &mut QuantizedRows) {
        o.cols = cols;
        o.q.clear();
        o.d.clear();
        o.m.clear();
        o.x.clear();
        o.bad.clear();
        o.sx.clear();
        if cols % 32 != 0 {
            o.bad.resize(x.len() / cols, false);
            return;
        }
        for row in x.chunks_exact(cols) {
            let mut bad = row.iter().any(|v| !v.is_finite());
            for b in row.chunks_exact(32) {
                let mx = b.iter().copied().fold(f32::MIN, f32::max);
                let mn = b.iter().copied().fold(f32::MAX, f32::min);
                let (d, m) = match mode {
                    QuantizeMode::Affine => ((mx - mn) / 254.0, (mx + mn) * 0.5),
                    QuantizeMode::Symmetric => (mx.max(-mn) / 127.0, 0.0),
                };
                if !(d.is_finite() && m.is_finite()) {
                    bad = true;
                }
                let id = if d > 0.0 { 1.0 / d } else { 0.0 };
                let mut s = [0i32; 2];
                for (i, v) in b.iter().enumerate() {
                    let q = ((v - m) * id).round_ties_even().clamp(-127.0, 127.0) as i8;
                    s[i / 16] += q as i32;
                    o.q.push(q);
                }
                o.d.push(d);
                o.m.push(m);
                o.sx.push(32f32.mul_add(m, d * (s[0] + s[1]) as f32));
                o.x.push([16f32.mul_add(m, d * s[0] as f32), 16f32.mul_add(m, d * s[1] as f32)]);
            }
            o.bad.push(bad);
        }
    }
    pub fn matmul(
        &self,
        _pool: &Pool,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        bias: Option<&[f32]>,
        out: &mut [f32],
        stride: usize,
    ) -> Result<(), NonFiniteWeight> {
        let k = w.cols;
        let rb = w.dtype.row_bytes(k).unwrap();
        let tokens = x.rows.len() / k;
        for n in 0..w.rows {
            let row = &w.data[n * rb..][..rb];
            let bs = bias.map_or(0.0, |b| b[n]);
            if w.dtype.block_elements() == 1 {
                let mut wf = vec![0.0; k];
                dequantize_row(w.dtype, row, &mut wf)
                    .map_err(|e| NonFiniteWeight { row: n, ..e })?;
                for t in 0..tokens {
                    let mut acc = 0f32;
                    for i in 0..k {
                        acc = wf[i].mul_add(x.rows[t * k + i], acc);
                    }
                    out[t * stride + n] = acc + bs;
                }
                continue;
            }
            let gs: Vec<Group> = (0..k / 32).map(|g| group(w.dtype, row, g)).collect();
            for (g, r) in gs.iter().enumerate() {
                if !(r.s.iter().chain(&r.b).all(|v| v.is_finite())) {
                    return Err(NonFiniteWeight { row: n, element: g * 32 });
                }
            }
            let q = x.quantized;
            let nb = k / 32;
            for t in 0..tokens {
                let mut acc = 0f32;
                for (g, r) in gs.iter().enumerate() {
                    let a = &q.q[(t * nb + g) * 32..][..32];
                    let mut i = [0i32; 2];
                    let mut s = [0i32; 2];
                    for e in 0..32 {
                        i[e / 16] += r.q[e] as i32 * a[e] as i32;
                        s[e / 16] += r.q[e] as i32;
                    }
                    let j = t * nb + g;
                    let (tt, ww) = if r.half {
                        (
                            (i[1] as f32).mul_add(r.s[1], i[0] as f32 * r.s[0]),
                            (s[1] as f32).mul_add(r.s[1], s[0] as f32 * r.s[0]),
                        )
                    } else {
                        ((i[0] + i[1]) as f32 * r.s[0], (s[0] + s[1]) as f32 * r.s[0])
                    };
                    acc = tt.mul_add(q.d[j], acc);
                    if r.min {
                        if r.half {
                            acc = r.b[0].mul_add(q.x[j][0], acc);
                            acc = r.b[1].mul_add(q.x[j][1], acc);
                        } else {
                            acc = r.b[0].mul_add(q.sx[j], acc);
                        }
                    }
                    acc = ww.mul_add(q.m[j], acc);
                }
                out[t * stride + n] = acc + bs;
            }
        }
        Ok(())
    }
    pub fn layer_norm(&self, x: &mut [f32], delta: Option<&[f32]>, w: &[f32], b: &[f32], eps: f32) {
        let h = w.len();
        for (t, row) in x.chunks_exact_mut(h).enumerate() {
            if let Some(d) = delta {
                for i in 0..h {
                    row[i] += d[t * h + i];
                }
            }
            let mean = row.iter().sum::<f32>() / h as f32;
            let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / h as f32;
            let r = 1.0 / (var + eps).sqrt();
            for i in 0..h {
                row[i] = ((row[i] - mean) * r).mul_add(w[i], b[i]);
            }
        }
    }
    pub fn gelu(&self, x: &mut [f32]) {
        for v in x {
            *v = 0.5 * *v * (1.0 + (0.7978845608f32 * (*v + 0.044715 * *v * *v * *v)).tanh());
        }
    }
    pub fn silu_mul(&self, up: &mut [f32], gate: &[f32]) {
        for (u, g) in up.iter_mut().zip(gate) {
            *u *= g / (1.0 + (-g).exp());
        }
    }
    pub fn rope(
        &self,
        x: &mut [f32],
        heads: usize,
        hd: usize,
        dims: usize,
        cos: &[f32],
        sin: &[f32],
    ) {
        for h in 0..heads {
            let v = &mut x[h * hd..][..hd];
            for i in 0..dims / 2 {
                let (a, b) = (v[i], v[i + dims / 2]);
                v[i] = a * cos[i] - b * sin[i];
                v[i + dims / 2] = a * sin[i] + b * cos[i];
            }
        }
    }
    pub fn attention(&self, _pool: &Pool, qkv: &[f32], heads: usize, hd: usize, out: &mut [f32]) {
        let h = heads * hd;
        let n = qkv.len() / (3 * h);
        let sc = 1.0 / (hd as f32).sqrt();
        let mut p = vec![0.0; n];
        for head in 0..heads {
            for t in 0..n {
                let q = &qkv[t * 3 * h + head * hd..][..hd];
                for s in 0..n {
                    let k = &qkv[s * 3 * h + h + head * hd..][..hd];
                    p[s] = q.iter().zip(k).map(|(a, b)| a * b).sum::<f32>() * sc;
                }
                let m = p.iter().copied().fold(f32::MIN, f32::max);
                let mut sum = 0.0;
                for v in &mut p {
                    *v = (*v - m).exp();
                    sum += *v;
                }
                let o = &mut out[t * h + head * hd..][..hd];
                o.fill(0.0);
                for s in 0..n {
                    let v = &qkv[s * 3 * h + 2 * h + head * hd..][..hd];
                    for i in 0..hd {
                        o[i] = p[s].mul_add(v[i], o[i]);
                    }
                }
                for v in o {
                    *v /= sum;
                }
            }
        }
    }
}
