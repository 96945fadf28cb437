//! The tensor table: names, shapes and types, with every byte range proven to lie in the file.

use std::sync::Arc;

use crate::kernels::DType;

use super::GgufError;
use super::error::{Quoted, quoted};
use super::mmap::{Map, Slice};
use super::reader::Reader;

/// More tensors than any file has: the largest mixtures of experts have some thousands.
const TENSORS_MAX: u64 = 65_536;

/// The longest name the specification allows.
const NAME_BYTES_MAX: u64 = 64;

/// ggml's tensors have at most this many dimensions.
const DIMS_MAX: u32 = 4;

/// A tensor of the file. Keeps the file mapped.
#[derive(Clone, Debug)]
pub struct Tensor {
    name: Slice,
    dtype: DType,
    n_dims: u8,
    dims: [usize; DIMS_MAX as usize],
    data: Slice,
}

impl Tensor {
    /// The name. Should somebody rewrite the file under the map, it may become empty.
    pub fn name(&self) -> &str {
        std::str::from_utf8(self.name.bytes()).unwrap_or_default()
    }

    /// The type of every element.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions in the file's order, fastest first: a matrix of `[rows, cols]` is
    /// `[cols, rows]` here. One to four, none of them zero.
    pub fn shape(&self) -> &[usize] {
        &self.dims[..self.n_dims.into()]
    }

    /// Elements of one row: the fastest dimension.
    pub fn cols(&self) -> usize {
        self.dims[0]
    }

    /// Rows: the product of the other dimensions.
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product()
    }

    /// The blocks, row by row, where the operating system mapped them.
    pub fn bytes(&self) -> &[u8] {
        self.data.bytes()
    }

    /// Where the data starts in the file.
    pub fn offset(&self) -> usize {
        self.data.offset()
    }

    /// The data as a range that outlives this handle.
    pub fn data(&self) -> &Slice {
        &self.data
    }
}

/// The tensors of one file.
#[derive(Debug)]
pub(super) struct TensorTable {
    /// In the order of the file.
    tensors: Vec<Tensor>,
    /// Indices of `tensors`, in the order of their names.
    by_name: Vec<u32>,
    /// Where the table ends in the file.
    end: usize,
}

impl TensorTable {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        map: &Arc<Map>,
        n_tensors: u64,
        alignment: usize,
    ) -> Result<Self, GgufError> {
        if n_tensors > TENSORS_MAX {
            let (what, found) = ("tensor count".to_owned(), n_tensors);
            return Err(GgufError::TooMany { what, found, offset: 8, max: TENSORS_MAX });
        }
        let mut infos = Vec::new();
        for index in 0..n_tensors {
            infos.push(TensorInfo::read(reader, index)?);
        }
        let end = reader.offset();
        let data_start = end.next_multiple_of(alignment);
        let tensors = infos
            .into_iter()
            .map(|info| info.locate(map, data_start, alignment))
            .collect::<Result<Vec<_>, _>>()?;
        refuse_overlaps(&tensors)?;
        let by_name = sort_names(&tensors)?;
        Ok(Self { tensors, by_name, end })
    }

    pub(super) fn table_end(&self) -> usize {
        self.end
    }

    pub(super) fn all(&self) -> &[Tensor] {
        &self.tensors
    }

    pub(super) fn find(&self, name: &str) -> Option<&Tensor> {
        let place = self
            .by_name
            .binary_search_by(|index| {
                self.tensors[*index as usize].name.bytes().cmp(name.as_bytes())
            })
            .ok()?;
        Some(&self.tensors[self.by_name[place] as usize])
    }
}

/// A line of the table, before it is known where the data section starts.
struct TensorInfo<'a> {
    name: &'a str,
    name_range: std::ops::Range<usize>,
    dtype: DType,
    n_dims: u8,
    dims: [usize; DIMS_MAX as usize],
    data_bytes: usize,
    /// From the start of the data section.
    data_offset: u64,
}

impl<'a> TensorInfo<'a> {
    fn read(reader: &mut Reader<'a>, index: u64) -> Result<Self, GgufError> {
        let (name, name_range) =
            reader.name(format_args!("name of tensor {index}"), NAME_BYTES_MAX)?;
        let what = quoted("tensor", name);

        let offset = reader.offset();
        let n_dims = reader.u32(what)?;
        if !(1..=DIMS_MAX).contains(&n_dims) {
            return Err(GgufError::Dimensions { what: what.to_string(), found: n_dims, offset });
        }
        let dims_offset = reader.offset();
        let mut dims = [1_u64; DIMS_MAX as usize];
        for dim in &mut dims[..n_dims as usize] {
            *dim = reader.u64(what)?;
        }

        let dtype = read_dtype(reader, what)?;
        let data_offset = reader.u64(what)?;

        let row = dims[0];
        if !row.is_multiple_of(dtype.block_elements() as u64) {
            let (what, block) = (format!("{what} ({dtype})"), dtype.block_elements());
            return Err(GgufError::Blocks { what, row, block, offset: dims_offset });
        }
        let Some((sizes, data_bytes)) = sizes_of(dims, dtype) else {
            let dims = dims[..n_dims as usize].to_vec();
            return Err(GgufError::Shape { what: what.to_string(), dims, offset: dims_offset });
        };
        let n_dims = n_dims as u8;
        Ok(Self { name, name_range, dtype, n_dims, dims: sizes, data_bytes, data_offset })
    }

    fn locate(
        self,
        map: &Arc<Map>,
        data_start: usize,
        alignment: usize,
    ) -> Result<Tensor, GgufError> {
        let what = quoted("tensor", self.name).to_string();
        if !self.data_offset.is_multiple_of(alignment as u64) {
            let found = self.data_offset;
            return Err(GgufError::Misaligned { what, found, alignment });
        }
        let file_bytes = map.bytes().len();
        let offset = self.data_offset.saturating_add(data_start as u64);
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(self.data_bytes)?));
        let Some(range) = range.filter(|range| range.end <= file_bytes) else {
            let needs = self.data_bytes;
            return Err(GgufError::TensorOutOfFile { what, needs, offset, file_bytes });
        };
        Ok(Tensor {
            name: Slice::new(map, self.name_range),
            dtype: self.dtype,
            n_dims: self.n_dims,
            dims: self.dims,
            data: Slice::new(map, range),
        })
    }
}

/// The dimensions as sizes, and the bytes of all elements; `None` where one is zero or the
/// product overflows.
fn sizes_of(
    dims: [u64; DIMS_MAX as usize],
    dtype: DType,
) -> Option<([usize; DIMS_MAX as usize], usize)> {
    let mut sizes = [0; DIMS_MAX as usize];
    for (size, dim) in sizes.iter_mut().zip(dims) {
        *size = usize::try_from(dim).ok().filter(|size| *size > 0)?;
    }
    // `rows()` multiplies without checks, and elements are counted by others: both must fit.
    sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?;
    let bytes = sizes[1..]
        .iter()
        .try_fold(dtype.row_bytes(sizes[0])?, |product, size| product.checked_mul(*size))?;
    Some((sizes, bytes))
}

fn read_dtype(reader: &mut Reader<'_>, what: Quoted<'_>) -> Result<DType, GgufError> {
    let offset = reader.offset();
    let number = reader.u32(what)?;
    DType::from_number(number).ok_or_else(|| GgufError::TensorType {
        what: what.to_string(),
        number,
        name: ggml_name(number),
        offset,
    })
}

/// The names of the types that `ggml.h` numbers and [`DType`] lacks.
fn ggml_name(number: u32) -> &'static str {
    match number {
        4 => "Q4_2, removed from ggml",
        5 => "Q4_3, removed from ggml",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4, removed from ggml",
        32 => "Q4_0_4_8, removed from ggml",
        33 => "Q4_0_8_8, removed from ggml",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4, removed from ggml",
        37 => "IQ4_NL_4_8, removed from ggml",
        38 => "IQ4_NL_8_8, removed from ggml",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => "unknown to ggml",
    }
}

fn refuse_overlaps(tensors: &[Tensor]) -> Result<(), GgufError> {
    let mut by_offset: Vec<&Tensor> = tensors.iter().collect();
    by_offset.sort_by_key(|tensor| tensor.offset());
    for pair in by_offset.windows(2) {
        let [first, second] = [pair[0], pair[1]];
        if first.offset() + first.bytes().len() > second.offset() {
            return Err(GgufError::Overlap {
                first: quoted("tensor", first.name()).to_string(),
                second: quoted("tensor", second.name()).to_string(),
                offset: second.offset(),
            });
        }
    }
    Ok(())
}

fn sort_names(tensors: &[Tensor]) -> Result<Vec<u32>, GgufError> {
    let name = |index: u32| &tensors[index as usize].name;
    let mut by_name: Vec<u32> = (0..).take(tensors.len()).collect();
    by_name.sort_by(|a, b| name(*a).bytes().cmp(name(*b).bytes()));
    for pair in by_name.windows(2) {
        let [first, second] = [name(pair[0]), name(pair[1])];
        if first.bytes() == second.bytes() {
            return Err(GgufError::Duplicate {
                what: quoted("tensor", tensors[pair[0] as usize].name()).to_string(),
                first: first.offset(),
                second: second.offset(),
            });
        }
    }
    Ok(by_name)
}
