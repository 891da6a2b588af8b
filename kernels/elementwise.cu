// Activations and the update, one thread an element; input and output may be the same memory.
// Grid: COUNT / 256.

#define FOR_ELEMENT(i) \
    int i = blockIdx.x * 256 + threadIdx.x; \
    if (i >= COUNT) return;

extern "C" __global__ void relu_forward(const float* x, float* y) {
    FOR_ELEMENT(i)
    y[i] = x[i] < 0.f ? 0.f : x[i];  // not a number stays: a diverged run must show itself
}

// y: the output of the forward pass.
extern "C" __global__ void relu_backward(const float* y,
                                         const float* gradient,
                                         float* out) {
    FOR_ELEMENT(i)
    out[i] = y[i] > 0.f ? gradient[i] : 0.f;
}

extern "C" __global__ void tanh_forward(const float* x, float* y) {
    FOR_ELEMENT(i)
    y[i] = tanhf(x[i]);
}

extern "C" __global__ void tanh_backward(const float* y,
                                         const float* gradient,
                                         float* out) {
    FOR_ELEMENT(i)
    out[i] = __fmul_rn(gradient[i], __fsub_rn(1.f, __fmul_rn(y[i], y[i])));
}

extern "C" __global__ void scale(const float* x, float factor,
                                 float* y) {
    FOR_ELEMENT(i)
    y[i] = __fmul_rn(x[i], factor);
}

// v = momentum v - decay w - rate g; w = w + v (paper section 5), each operation rounded, so that
// CPU and GPU agree in every bit. decay = weight decay * rate.
extern "C" __global__ void update(float* __restrict__ w, float* __restrict__ v,
                                  const float* __restrict__ g, float momentum, float decay,
                                  float rate) {
    FOR_ELEMENT(i)
    float kept = __fsub_rn(__fmul_rn(momentum, v[i]), __fmul_rn(decay, w[i]));
    float next = __fsub_rn(kept, __fmul_rn(rate, g[i]));
    v[i] = next;
    w[i] = __fadd_rn(w[i], next);
}
