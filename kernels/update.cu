// The update of weights or biases (paper section 5): v = momentum v - decay w - rate g; w = w + v,
// each operation rounded, so that CPU and GPU agree in every bit. decay = weight decay * rate.
//
//   w values, v their momenta, g their gradients: [COUNT]
//
// Grid: COUNT / 256.
extern "C" __global__ void update(float* __restrict__ w, float* __restrict__ v,
                                  const float* __restrict__ g, float momentum, float decay,
                                  float rate) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= COUNT) return;
    float kept = __fsub_rn(__fmul_rn(momentum, v[i]), __fmul_rn(decay, w[i]));
    float next = __fsub_rn(kept, __fmul_rn(rate, g[i]));
    v[i] = next;
    w[i] = __fadd_rn(w[i], next);
}
