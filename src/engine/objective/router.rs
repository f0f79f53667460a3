//! Auxiliary losses that balance a mixture of experts: the load-balancing loss (arXiv:2101.03961), computed
//! like in transformers, and the router-z loss (arXiv:2202.08906).

use crate::model::layers::moe::Routing;
use burn::tensor::{Int, Tensor, activation::softmax};

/// Losses and statistics of the routers of all layers, on the device.
pub struct RouterLosses {
    /// Load-balancing loss, `[1]`: number of experts times the sum over experts of (share of the tokens) ·
    /// (mean probability). It is the number of experts per token if all experts have equal shares, otherwise
    /// more.
    pub load_balancing: Tensor<1>,
    /// Router-z loss, `[1]`: mean of the squared log-partition function of the logits.
    pub z: Tensor<1>,
    /// Share of all assignments that each expert has, `[X]`.
    pub utilization: Tensor<1>,
}

/// Computes the losses over the routings of all layers. Each routing comes with its tokens' weights, `[N,
/// 1]`: 1 for tokens and 0 for padding. `None` without experts.
pub fn losses(routings: &[(&Routing, &Tensor<2>)]) -> Option<RouterLosses> {
    let [_, experts] = routings.first()?.0.logits.dims();
    let logits = Tensor::cat(routings.iter().map(|(routing, _)| routing.logits.clone()).collect(), 0); // [L N, X]
    let chosen = Tensor::cat(routings.iter().map(|(routing, _)| routing.chosen.clone()).collect(), 0); // [L N, K]
    let real = Tensor::cat(routings.iter().map(|(_, real)| (*real).clone()).collect(), 0); // [L N, 1]
    let [rows, per_token] = chosen.dims();
    let count: Tensor<2> = real.clone().sum_dim(0).clamp_min(1.0); // [1, 1]

    let all: Tensor<3, Int> = Tensor::<1, Int>::arange(0..experts as i64, &logits.device()).unsqueeze();
    let own: Tensor<3, Int> = chosen.reshape([rows, per_token, 1]);
    let hits: Tensor<2> = own.equal(all).float().sum_dim(1).squeeze_dim(1); // [L N, X]
    let load = (hits * real.clone()).sum_dim(0) / count.clone(); // [1, X], sums to K
    let probability = (softmax(logits.clone(), 1) * real.clone()).sum_dim(0) / count.clone(); // [1, X]
    let largest = logits.clone().max_dim(1); // [L N, 1]
    let log_sum = (logits - largest.clone()).exp().sum_dim(1).log() + largest;
    let z = (log_sum.square() * real).sum_dim(0) / count;
    Some(RouterLosses {
        load_balancing: (load.clone() * probability).sum().mul_scalar(experts as f64),
        z: z.reshape([1]),
        utilization: load.div_scalar(per_token as f64).reshape([experts]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_is_the_least_and_padding_does_not_count() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let routing = |logits: [[f32; 2]; 3], chosen: [[i32; 1]; 3]| Routing {
            logits: Tensor::from_data(logits, &device),
            chosen: Tensor::from_data(chosen, &device),
        };
        let real = Tensor::<2>::from_data([[1.0], [1.0], [0.0]], &device);
        let balanced = routing([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]], [[0], [1], [0]]);
        let found = losses(&[(&balanced, &real)]).unwrap();
        assert!((found.load_balancing.into_scalar::<f32>() - 1.0).abs() < 1e-6);
        assert!((found.z.into_scalar::<f32>() - 2f32.ln().powi(2)).abs() < 1e-6);
        assert_eq!(found.utilization.into_data().try_into_vec_as::<f32>().unwrap(), [0.5, 0.5]);
        let collapsed = routing([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]], [[0], [0], [1]]);
        let found = losses(&[(&collapsed, &real)]).unwrap();
        assert!((found.load_balancing.into_scalar::<f32>() - 2.0).abs() < 1e-3);
        assert!(losses(&[]).is_none());
    }
}
