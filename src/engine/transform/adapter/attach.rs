//! Puts an adapter into a model.

use super::{
    layout::{AdapterLayout, Placed},
    sites::{self, Site},
};
use crate::{
    config::AdapterKind,
    model::{
        Model,
        layers::adapter::{Adapter, Part, Saved, StackAdapter},
        parameters::{HostTensor, NamedData, put},
    },
};
use burn::{
    module::Param,
    tensor::{Device, Tensor, TensorData},
};

impl AdapterLayout {
    /// Puts the adapter into a model. `numbers` are those that [`load`](Self::load) or [`initial`](Self::initial) gives;
    /// without them, a magnitude is the norm of the model's columns, and a copy is the model's layer. `share` is the
    /// share of the changes that counts.
    pub fn attach(&self, mut model: Model, mut numbers: NamedData, share: f64, dropout: f64) -> Model {
        let mut attach = |name: &str, site: Site<'_>| {
            let is_here = |placed: &&Placed| placed.matrix.parameter == name;
            let mut here = self.changes.iter().filter(is_here).peekable();
            let is_copied = self.copies.contains(name);
            if here.peek().is_none() && !is_copied {
                return;
            }
            let bias_name = name.replace(".weight", ".bias");
            let mut take = |own: &str| if is_copied { numbers.remove(&self.copy_name(own)) } else { None };
            let (copy, copied_bias) = (take(name), take(&bias_name));
            match site {
                Site::Linear(linear) => {
                    let adapter = linear.adapter.get_or_insert_with(|| Adapter::new(dropout, false));
                    for placed in here {
                        adapter.parts.push(self.part(placed, linear.weight.val(), &mut numbers, share));
                    }
                    if is_copied {
                        let (old, old_bias) = parts_of(adapter.saved.take());
                        let weight = copy_of(&linear.weight, old, copy, share);
                        let own_bias = linear.bias.as_ref();
                        let bias = own_bias.map(|own| copy_of(own, old_bias, copied_bias, share));
                        adapter.saved = Some(Saved { weight, bias });
                    }
                }
                Site::Embedding(embeddings) => {
                    let tying = self.settings.weight_tying;
                    let slot = &mut embeddings.embedding_adapter;
                    let adapter = slot.get_or_insert_with(|| Adapter::new(0.0, tying));
                    for placed in here {
                        adapter.parts.push(self.part(
                            placed,
                            embeddings.embedding.val(),
                            &mut numbers,
                            share,
                        ));
                    }
                    if is_copied {
                        let (old, _) = parts_of(adapter.saved.take());
                        let weight = copy_of(&embeddings.embedding, old, copy, share);
                        adapter.saved = Some(Saved { weight, bias: None });
                    }
                }
                Site::Experts(stack, slot) => {
                    let weight = stack.val();
                    let adapters = slot.get_or_insert_with(|| StackAdapter::new(weight.dims()[0]));
                    for placed in here {
                        let expert = placed.matrix.expert.unwrap_or(0);
                        let own = weight.clone().narrow(0, expert, 1).squeeze_dim(0);
                        let part = self.part(placed, own, &mut numbers, share);
                        let adapter = &mut adapters.experts[expert];
                        adapter.get_or_insert_with(|| Adapter::new(0.0, false)).parts.push(part);
                    }
                }
            }
        };
        sites::each(&mut model, &mut attach);
        // What is left are the parameters of a head that the base does not have.
        if self.has_new_head { put(model, numbers) } else { model }
    }

    /// Makes the low-rank change of a matrix, `[I, O]`.
    fn part(&self, placed: &Placed, weight: Tensor<2>, numbers: &mut NamedData, share: f64) -> Part {
        let Placed { matrix, rank, scale, prefix } = placed;
        let device = &weight.device();
        let mut take = |kind: &str| numbers.remove(&format!("{prefix}.{kind}"));
        let (outputs, magnitude) = (matrix.columns.len(), take("magnitude"));
        let mut factor = |kind: &str, shape: [usize; 2]| -> Param<Tensor<2>> {
            let zeros = || HostTensor::new(shape, vec![0.0; shape.iter().product()]);
            let HostTensor { shape, values } = take(kind).unwrap_or_else(zeros);
            Param::from_data(TensorData::new(values, shape), device)
        };
        let (down, up) = (factor("down", [matrix.sizes[0], *rank]), factor("up", [*rank, outputs]));
        let part =
            |magnitude| Part::new(down.clone(), up.clone(), magnitude, matrix.columns.clone(), *scale, share);
        if self.settings.kind() != AdapterKind::Dora {
            return part(None);
        }
        part(Some(match magnitude {
            Some(HostTensor { shape, values }) => Param::from_data(TensorData::new(values, shape), device),
            None => trained(part(None).norms(weight).reshape([outputs]), device),
        }))
    }
}

/// Makes a parameter of numbers without autodiff, for a model on this device.
fn trained<const D: usize>(numbers: Tensor<D>, device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(if device.is_autodiff() { Tensor::from_inner(numbers) } else { numbers })
}

fn parts_of(saved: Option<Saved>) -> (Option<Param<Tensor<2>>>, Option<Param<Tensor<1>>>) {
    saved.map_or((None, None), |saved| (Some(saved.weight), saved.bias))
}

/// Makes the trained copy of a parameter: its own values if none were `read`. If the read ones count for a `share`
/// only, it is the sum of the copy that there is, or the parameter itself, and of that share of the difference.
fn copy_of<const D: usize>(
    own: &Param<Tensor<D>>,
    old: Option<Param<Tensor<D>>>,
    read: Option<HostTensor>,
    share: f64,
) -> Param<Tensor<D>> {
    let (device, plain) = (own.lazy_device(), own.val().inner());
    let Some(HostTensor { shape, values }) = read else { return trained(plain, &device) };
    let data = TensorData::new(values, shape);
    if old.is_none() && share == 1.0 {
        return Param::from_data(data, &device);
    }
    let read = Tensor::from_data(data, &plain.device());
    let before = old.map_or_else(|| plain.clone(), |old| old.val().inner());
    trained(before + (read - plain).mul_scalar(share), &device)
}
