//! State of an optimizer: what it keeps of each parameter between steps, on the device and in host memory.

use crate::{
    device::device_failed,
    error::Result,
    kernels::{
        adafactor::{self, Sizes},
        adamw_8bit::{blocks, words},
    },
    model::parameters::{self, FlatTensor, HostTensor, NamedData},
};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, Transaction};
use std::collections::BTreeMap;

/// Optimizer state of one parameter.
#[derive(Debug, Clone)]
pub struct ParameterState {
    /// Number of updates so far.
    pub updates: usize,
    pub moments: Moments,
}

/// Optimizer states by parameter name.
pub type OptimizerState = BTreeMap<String, ParameterState>;

/// Moments of one parameter.
#[derive(Debug, Clone)]
pub enum Moments {
    /// First moment (Adam, AdamW) or momentum (SGD, Lion, Muon).
    One(FlatTensor),
    /// First and second moment (Adam, AdamW).
    Two(FlatTensor, FlatTensor),
    /// Codes and largest magnitudes of first and second moment (AdamW with 8 bits).
    EightBit { codes: Tensor<1, Int>, largest: FlatTensor },
    /// Second moment of a vector (Adafactor).
    Second(FlatTensor),
    /// Means of the second moment's rows and columns (Adafactor).
    Factored { rows: FlatTensor, columns: FlatTensor },
}

/// Form of the moments of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    One,
    Two,
    EightBit,
    /// Means of rows and columns, of vectors the whole second moment.
    Factored,
}

/// A tensor among the moments of a parameter, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name without that of the parameter.
    pub suffix: &'static str,
    pub shape: Vec<usize>,
    /// Whether it has words of codes, of type u32, instead of floats.
    pub is_words: bool,
}

impl Stored {
    fn floats(suffix: &'static str, shape: impl Into<Vec<usize>>) -> Self {
        Self { suffix, shape: shape.into(), is_words: false }
    }

    /// Number of elements, which have four bytes each.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

const FIRST: &str = ".moment_1";
const SECOND: &str = ".moment_2";
const CODES: &str = ".moments.codes";
const LARGEST: &str = ".moments.largest";
const ROWS: &str = ".moment_2.rows";
const COLUMNS: &str = ".moment_2.columns";

impl Form {
    /// The tensors that the moments of a parameter of this shape are stored as.
    pub fn stored(self, shape: &[usize]) -> Vec<Stored> {
        let count: usize = shape.iter().product();
        match (self, Sizes::of(shape)) {
            (Self::One, _) => vec![Stored::floats(FIRST, shape)],
            (Self::Two, _) => vec![Stored::floats(FIRST, shape), Stored::floats(SECOND, shape)],
            (Self::EightBit, _) => vec![
                Stored { suffix: CODES, shape: vec![2, words(count)], is_words: true },
                Stored::floats(LARGEST, [2, blocks(count)]),
            ],
            (Self::Factored, Sizes::Vector) => vec![Stored::floats(SECOND, shape)],
            (Self::Factored, sizes @ Sizes::Matrices { count: matrices, rows, columns }) => {
                debug_assert_eq!(adafactor::lengths(sizes, count), [matrices * rows, matrices * columns]);
                vec![Stored::floats(ROWS, [matrices, rows]), Stored::floats(COLUMNS, [matrices, columns])]
            }
        }
    }

    /// Makes moments of stored tensors: `find` gives the one that is described.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn build<E>(
        self,
        shape: &[usize],
        device: &Device,
        mut find: impl FnMut(&Stored) -> Result<HostNumbers, E>,
    ) -> Result<Moments, E> {
        let mut parts = Vec::new();
        for stored in self.stored(shape) {
            parts.push(find(&stored)?.into_tensor(stored.shape, device));
        }
        let mut parts = parts.into_iter();
        let (first, second) = (parts.next(), parts.next());
        Ok(match (self, first, second) {
            (Self::One, Some(Part::Floats(first)), _) => Moments::One(first),
            (Self::Two, Some(Part::Floats(first)), Some(Part::Floats(second))) => Moments::Two(first, second),
            (Self::EightBit, Some(Part::Words(codes)), Some(Part::Floats(largest))) => {
                Moments::EightBit { codes, largest }
            }
            (Self::Factored, Some(Part::Floats(second)), None) => Moments::Second(second),
            (Self::Factored, Some(Part::Floats(rows)), Some(Part::Floats(columns))) => {
                Moments::Factored { rows, columns }
            }
            _ => unreachable!("every form has the tensors that it describes"),
        })
    }
}

/// Numbers of a stored tensor in host memory.
#[derive(Debug, Clone, PartialEq)]
pub enum HostNumbers {
    Floats(Vec<f32>),
    Words(Vec<u32>),
}

impl HostNumbers {
    fn into_tensor(self, shape: Vec<usize>, device: &Device) -> Part {
        match self {
            Self::Floats(values) => Part::Floats(FlatTensor::from_host(HostTensor { shape, values }, device)),
            Self::Words(words) => {
                let count = words.len();
                Part::Words(Tensor::from_data(TensorData::new(words, [count]), (device, DType::U32)))
            }
        }
    }
}

/// A tensor among the moments of a parameter, on the device.
#[derive(Debug, Clone)]
pub enum Part {
    Floats(FlatTensor),
    Words(Tensor<1, Int>),
}

impl Moments {
    /// All tensors, in the order of [`Form::stored`], with their suffixes.
    pub fn into_parts(self) -> Vec<(&'static str, Part)> {
        match self {
            Self::One(first) => vec![(FIRST, Part::Floats(first))],
            Self::Two(first, second) => vec![(FIRST, Part::Floats(first)), (SECOND, Part::Floats(second))],
            Self::EightBit { codes, largest } => {
                vec![(CODES, Part::Words(codes)), (LARGEST, Part::Floats(largest))]
            }
            Self::Second(second) => vec![(SECOND, Part::Floats(second))],
            Self::Factored { rows, columns } => {
                vec![(ROWS, Part::Floats(rows)), (COLUMNS, Part::Floats(columns))]
            }
        }
    }

    /// These moments if `keep_if` is true, otherwise the old ones, which are 0 if there are none. Moments of other
    /// forms, whose kernels do this themselves, stay as they are.
    pub fn keep(self, keep_if: &Tensor<1, Bool>, old: Option<Self>) -> Self {
        let keep = |new: FlatTensor, old: Option<FlatTensor>| {
            let old = old.map_or_else(|| new.values.zeros_like(), |old| old.values);
            FlatTensor { shape: new.shape, values: select(keep_if, new.values, old) }
        };
        match (self, old) {
            (Self::One(new), Some(Self::One(old))) => Self::One(keep(new, Some(old))),
            (Self::One(new), _) => Self::One(keep(new, None)),
            (Self::Two(first, second), Some(Self::Two(old_first, old_second))) => {
                Self::Two(keep(first, Some(old_first)), keep(second, Some(old_second)))
            }
            (Self::Two(first, second), _) => Self::Two(keep(first, None), keep(second, None)),
            (other, _) => other,
        }
    }
}

/// Returns `new` if `keep_if` is true, otherwise `old`.
pub(super) fn select(keep_if: &Tensor<1, Bool>, new: Tensor<1>, old: Tensor<1>) -> Tensor<1> {
    let mask = keep_if.clone().expand(new.dims());
    old.mask_where(mask, new)
}

/// Tensors of floats of an optimizer state, with the names `PARAMETER.moment_1` and so on.
pub fn state_tensors(state: &OptimizerState) -> BTreeMap<String, FlatTensor> {
    let mut tensors = BTreeMap::new();
    for (name, state) in state {
        for (suffix, part) in state.moments.clone().into_parts() {
            if let Part::Floats(tensor) = part {
                tensors.insert(format!("{name}{suffix}"), tensor);
            }
        }
    }
    tensors
}

/// An optimizer state in host memory, by the names of [`state_tensors`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostState {
    pub floats: NamedData,
    /// Words of codes, with their shapes.
    pub words: BTreeMap<String, (Vec<usize>, Vec<u32>)>,
    /// Number of updates of each parameter.
    pub updates: BTreeMap<String, usize>,
}

impl HostState {
    /// Reads a state from its device.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn read(state: &OptimizerState) -> Result<Self> {
        let floats = parameters::read(state_tensors(state)).await?;
        let updates = state.iter().map(|(name, state)| (name.clone(), state.updates)).collect();
        let (mut names, mut all) = (Vec::new(), Vec::new());
        for (name, state) in state {
            if let Moments::EightBit { codes, .. } = &state.moments {
                names.push(format!("{name}{CODES}"));
                all.push(codes.clone());
            }
        }
        let words = names.into_iter().zip(read_words(all).await?);
        let words = words.map(|(name, words)| (name, (vec![2, words.len() / 2], words))).collect();
        Ok(Self { floats, words, updates })
    }

    /// Takes out the tensor of a parameter that is described.
    ///
    /// # Errors
    /// A message if it is missing or has another shape.
    pub fn take(&mut self, parameter: &str, stored: &Stored) -> Result<HostNumbers, String> {
        let name = format!("{parameter}{}", stored.suffix);
        let missing = || format!("tensor `{name}` is missing");
        if stored.is_words {
            let (shape, words) = self.words.remove(&name).ok_or_else(missing)?;
            let host = HostTensor { shape, values: Vec::new() };
            parameters::check_shape(&name, &host, &stored.shape)?;
            return Ok(HostNumbers::Words(words));
        }
        let host = self.floats.remove(&name).ok_or_else(missing)?;
        parameters::check_shape(&name, &host, &stored.shape)?;
        Ok(HostNumbers::Floats(host.values))
    }

    /// Adds the tensor of a parameter that is described.
    pub fn put(&mut self, parameter: &str, stored: Stored, numbers: HostNumbers) {
        let name = format!("{parameter}{}", stored.suffix);
        match numbers {
            HostNumbers::Floats(values) => {
                self.floats.insert(name, HostTensor { shape: stored.shape, values });
            }
            HostNumbers::Words(words) => drop(self.words.insert(name, (stored.shape, words))),
        }
    }

    /// Name of any tensor.
    pub fn any(&self) -> Option<&String> {
        self.floats.keys().chain(self.words.keys()).next()
    }
}

/// Reads tensors of words, waiting for the device once.
async fn read_words(tensors: Vec<Tensor<1, Int>>) -> Result<Vec<Vec<u32>>> {
    let Some(device) = tensors.first().map(Tensor::device) else { return Ok(Vec::new()) };
    let transaction = tensors.into_iter().fold(Transaction::default(), Transaction::register);
    let failed = |message: String| device_failed(&device, "reading moments", message);
    let data = transaction.execute_async().await.map_err(|e| failed(e.to_string()))?;
    data.into_iter().map(|data| data.try_into_vec_as::<u32>().map_err(|e| failed(format!("{e:?}")))).collect()
}

/// Reads the parts of one parameter's moments, waiting for the device once.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub(super) async fn read_parts(parts: Vec<(&'static str, Part)>) -> Result<Vec<(&'static str, HostNumbers)>> {
    let mut numbers = Vec::with_capacity(parts.len());
    let (mut transaction, mut device) = (Transaction::default(), None);
    let mut kinds = Vec::with_capacity(parts.len());
    for (suffix, part) in parts {
        kinds.push((suffix, matches!(part, Part::Words(_))));
        transaction = match part {
            Part::Floats(tensor) => {
                device = Some(tensor.values.device());
                transaction.register(tensor.values)
            }
            Part::Words(words) => transaction.register(words),
        };
    }
    let Some(device) = device else { return Ok(numbers) };
    let failed = |message: String| device_failed(&device, "reading moments", message);
    let data = transaction.execute_async().await.map_err(|e| failed(e.to_string()))?;
    for ((suffix, is_words), data) in kinds.into_iter().zip(data) {
        let read = match is_words {
            true => data.try_into_vec_as().map(HostNumbers::Words),
            false => data.try_into_vec_as().map(HostNumbers::Floats),
        };
        numbers.push((suffix, read.map_err(|e| failed(format!("{e:?}")))?));
    }
    Ok(numbers)
}
