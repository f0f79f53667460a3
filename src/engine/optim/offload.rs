//! Optimizer states in the machine's memory, or in a file that is mapped into it, instead of the device's memory.
//!
//! In a step the states move to the device and back one parameter at a time. A state is read back only when that of the
//! next parameter is being computed, so that devices that work by themselves need not wait for the copy.

use super::state::{Form, HostNumbers, HostState, Moments, ParameterState, Stored, read_parts};
use crate::{
    error::Result,
    platform::storage::{Scratch, create_scratch},
};
use burn::tensor::Device;
use std::{collections::BTreeMap, ops::Range, path::Path};

/// Name of the file of states in a folder.
const FILE: &str = "optimizer-states.tmp";

/// Alignment of tensors in the file, in bytes.
const ALIGNMENT: usize = 64;

/// Optimizer states that are not on the device.
pub struct Away {
    place: Place,
    /// Number of updates of each parameter that has a state, and the form of the state.
    parameters: BTreeMap<String, Described>,
    /// The state that was computed last, and is not read back yet.
    unread: Option<(String, ParameterState)>,
}

struct Described {
    updates: usize,
    stored: Vec<Stored>,
}

/// Place of the numbers of tensors, by their names.
enum Place {
    Memory(BTreeMap<String, HostNumbers>),
    File { file: Scratch, ranges: BTreeMap<String, Range<usize>> },
}

impl Away {
    /// Keeps states in memory.
    pub fn in_memory() -> Self {
        Self { place: Place::Memory(BTreeMap::new()), parameters: BTreeMap::new(), unread: None }
    }

    /// Keeps states in a file of `folder` that has space for those of all parameters, and moves the states of `before`
    /// there.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be made.
    pub fn in_file<'a>(
        folder: &Path,
        forms: impl Iterator<Item = (&'a String, Form, &'a Vec<usize>)>,
        before: Option<Self>,
    ) -> Result<Self> {
        let (mut ranges, mut end) = (BTreeMap::new(), 0usize);
        for (name, form, shape) in forms {
            for stored in form.stored(shape) {
                let start = end.next_multiple_of(ALIGNMENT);
                end = start + 4 * stored.count();
                ranges.insert(tensor_name(name, &stored), start..end);
            }
        }
        let file = create_scratch(&folder.join(FILE), end)?;
        let place = Place::File { file, ranges };
        let mut away = Self { place, parameters: BTreeMap::new(), unread: None };
        if let Some(Self { mut place, parameters, .. }) = before {
            for (name, Described { updates, stored }) in &parameters {
                for stored in stored {
                    if let Some(numbers) = place.take(&tensor_name(name, stored), stored) {
                        away.put(name, *updates, stored.clone(), numbers);
                    }
                }
            }
        }
        Ok(away)
    }

    /// Copies the state of a parameter to the device; `None` if there is none yet.
    pub fn fetch(
        &mut self,
        name: &str,
        form: Form,
        shape: &[usize],
        device: &Device,
    ) -> Option<ParameterState> {
        let updates = self.parameters.get(name)?.updates;
        let find = |stored: &Stored| self.place.take(&tensor_name(name, stored), stored).ok_or(());
        let moments = form.build(shape, device, find).ok()?;
        Some(ParameterState { updates, moments })
    }

    /// Takes a new state from the device, and waits for the one before it.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub fn store(
        &mut self,
        name: String,
        form: Form,
        shape: Vec<usize>,
        state: ParameterState,
    ) -> Result<()> {
        let finished = self.finish();
        self.parameters
            .insert(name.clone(), Described { updates: state.updates, stored: form.stored(&shape) });
        self.unread = Some((name, state));
        finished
    }

    /// Waits until all states are read back.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub fn finish(&mut self) -> Result<()> {
        let Some((name, ParameterState { updates, moments })) = self.unread.take() else { return Ok(()) };
        let Some(described) = self.parameters.get(&name) else { return Ok(()) };
        let stored = described.stored.clone();
        let read = pollster::block_on(read_parts(Moments::into_parts(moments)))?;
        for (stored, (_, numbers)) in stored.into_iter().zip(read) {
            self.put(&name, updates, stored, numbers);
        }
        Ok(())
    }

    /// Stores one tensor of a parameter's state.
    pub fn put(&mut self, name: &str, updates: usize, stored: Stored, numbers: HostNumbers) {
        self.place.write(tensor_name(name, &stored), numbers);
        let described = Described { updates, stored: Vec::new() };
        let described = self.parameters.entry(name.to_owned()).or_insert(described);
        described.updates = updates;
        if !described.stored.contains(&stored) {
            described.stored.push(stored);
        }
    }

    /// Adds all states to one in host memory.
    pub fn copy_into(&self, state: &mut HostState) {
        for (name, Described { updates, stored }) in &self.parameters {
            for stored in stored {
                if let Some(numbers) = self.place.read(&tensor_name(name, stored), stored) {
                    state.put(name, stored.clone(), numbers);
                }
            }
            state.updates.insert(name.clone(), *updates);
        }
    }
}

fn tensor_name(parameter: &str, stored: &Stored) -> String {
    format!("{parameter}{}", stored.suffix)
}

impl Place {
    /// The numbers of a tensor, which are replaced soon: those in memory are moved.
    fn take(&mut self, name: &str, stored: &Stored) -> Option<HostNumbers> {
        match self {
            Self::Memory(tensors) => tensors.remove(name),
            Self::File { .. } => {
                let numbers = self.read(name, stored);
                if let Self::File { file, ranges } = self
                    && let Some(range) = ranges.get(name)
                {
                    file.release(range.clone());
                }
                numbers
            }
        }
    }

    fn read(&self, name: &str, stored: &Stored) -> Option<HostNumbers> {
        match self {
            Self::Memory(tensors) => tensors.get(name).cloned(),
            Self::File { file, ranges } => {
                let fours = file[ranges.get(name)?.clone()].as_chunks::<4>().0;
                Some(match stored.is_words {
                    true => HostNumbers::Words(fours.iter().map(|four| u32::from_le_bytes(*four)).collect()),
                    false => {
                        HostNumbers::Floats(fours.iter().map(|four| f32::from_le_bytes(*four)).collect())
                    }
                })
            }
        }
    }

    fn write(&mut self, name: String, numbers: HostNumbers) {
        match self {
            Self::Memory(tensors) => drop(tensors.insert(name, numbers)),
            Self::File { file, ranges } => {
                let Some(range) = ranges.get(&name) else { return };
                let fours = file[range.clone()].as_chunks_mut::<4>().0;
                match numbers {
                    HostNumbers::Floats(floats) => {
                        fours.iter_mut().zip(floats).for_each(|(four, float)| *four = float.to_le_bytes());
                    }
                    HostNumbers::Words(words) => {
                        fours.iter_mut().zip(words).for_each(|(four, word)| *four = word.to_le_bytes());
                    }
                }
                file.release(range.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::FlatTensor;
    use burn::tensor::{Int, Tensor};

    fn device() -> Device {
        crate::device::Choice::cpu().open().unwrap()
    }

    fn moments(shift: f32) -> Moments {
        let numbers: Vec<f32> = (0..6).map(|i| i as f32 + shift).collect();
        let flat = |scale: f32| FlatTensor {
            shape: vec![2, 3],
            values: Tensor::from_floats(numbers.as_slice(), &device()).mul_scalar(scale),
        };
        Moments::Two(flat(1.0), flat(-0.1))
    }

    fn eight_bit() -> Moments {
        let shape = vec![2, 2];
        let largest = FlatTensor { shape, values: Tensor::from_floats([0.1, 0.2, 0.3, 0.4], &device()) };
        let words =
            burn::tensor::TensorData::new((0..160u32).map(|i| (i << 24) | 7).collect::<Vec<_>>(), [160]);
        let codes = Tensor::<1, Int>::from_data(words, (&device(), burn::tensor::DType::U32));
        Moments::EightBit { codes, largest }
    }

    /// Reads the numbers that a state stores.
    fn read(state: ParameterState) -> (usize, Vec<(&'static str, HostNumbers)>) {
        (state.updates, pollster::block_on(read_parts(state.moments.into_parts())).unwrap())
    }

    #[test]
    fn states_come_back_as_they_were_from_memory_and_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (x, y) = ("x".to_owned(), "y".to_owned());
        let (shape, long) = (vec![2, 3], vec![320]);
        let forms = || [(&x, Form::Two, &shape), (&y, Form::EightBit, &long)].into_iter();
        let fill = |away: &mut Away| {
            let state = |updates, moments| ParameterState { updates, moments };
            away.store(x.clone(), Form::Two, shape.clone(), state(1, moments(0.5))).unwrap();
            away.store(y.clone(), Form::EightBit, long.clone(), state(7, eight_bit())).unwrap();
            away.store(x.clone(), Form::Two, shape.clone(), state(2, moments(0.25))).unwrap();
            away.finish().unwrap();
        };
        let mut memory = Away::in_memory();
        assert!(memory.fetch("x", Form::Two, &shape, &device()).is_none());
        fill(&mut memory);
        let mut file = Away::in_file(folder.path(), forms(), None).unwrap();
        fill(&mut file);
        // And moved from memory to a file.
        let mut moved = Away::in_memory();
        fill(&mut moved);
        let other = tempfile::tempdir().unwrap();
        let mut moved = Away::in_file(other.path(), forms(), Some(moved)).unwrap();
        for away in [&mut memory, &mut file, &mut moved] {
            let mut whole = HostState::default();
            away.copy_into(&mut whole);
            assert_eq!(whole.updates, [(x.clone(), 2), (y.clone(), 7)].into());
            assert_eq!(
                whole.floats.keys().collect::<Vec<_>>(),
                ["x.moment_1", "x.moment_2", "y.moments.largest"]
            );
            assert_eq!(whole.words["y.moments.codes"].0, [2, 80]);
            let found = away.fetch("x", Form::Two, &shape, &device()).unwrap();
            let expected = ParameterState { updates: 2, moments: moments(0.25) };
            assert_eq!(read(found), read(expected));
            let found = away.fetch("y", Form::EightBit, &long, &device()).unwrap();
            assert_eq!(read(found), read(ParameterState { updates: 7, moments: eight_bit() }));
        }
    }

    #[test]
    fn a_file_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (name, shape) = ("x".to_owned(), vec![4]);
        let made = Away::in_file(&folder.path().join("no"), [(&name, Form::One, &shape)].into_iter(), None);
        assert!(made.err().unwrap().to_string().contains(FILE));
    }
}
