// The update of a layer's weights and biases (rule.cuh) in one launch.
//
//   w values, v their momenta, g their gradients: [COUNT]; of the biases the same: [BIASES]. Of
//            each, a rule of its own; where w is none, it stays as it is. With SPLITS > 1, g is so
//            many parts, [SPLITS][COUNT], added up in rising order, and those of the biases,
//            [SPLITS][BIASES], lie behind them
//   factors  with BF16 the weights once more, real, as the products read them: rows of REAL_C
//            channels of OUT_C kernels each become rows of IN_C channels; what that adds stays 0
//   scaled   if there are any: the weights' rate and decay in place of the arguments
//   loss     if there is one and it is no number, or not finite, nothing changes
//
// Grid: COUNT / PER / 256 and then BIASES / PER / 256.
//
// `round_off` makes the factors of weights that came from elsewhere. Grid: COUNT / PER / 256.
#include "real.cuh"
#include "rule.cuh"
#ifndef BIASES
#define BIASES 0
#endif
#ifndef SPLITS
#define SPLITS 1
#endif
constexpr int PER = COUNT % 4 == 0 && OUT_C % 4 == 0 ? 4 : 1;
constexpr int BIAS_PER = BIASES % 4 == 0 && (SPLITS == 1 || SPLITS * COUNT % 4 == 0) ? 4 : 1;
constexpr int WEIGHT_BLOCKS = (COUNT / PER + 255) / 256;

__device__ __forceinline__ void write_factors(bfloat16* factors, int i, const float (&w)[PER]) {
    int row = i / OUT_C;
    int at = REAL_C == IN_C ? i : (row / REAL_C * IN_C + row % REAL_C) * OUT_C + i % OUT_C;
    if (PER == 1) {
        factors[at] = w[0];
        return;
    }
    unsigned* words = reinterpret_cast<unsigned*>(factors + at);
    words[0] = to_bf16x2(w[0], w[1 % PER]);
    words[1] = to_bf16x2(w[2 % PER], w[3 % PER]);
}

template <int N> __device__ __forceinline__ void load(const float* p, float (&v)[N]) {
    if (N == 1) {
        v[0] = p[0];
        return;
    }
    float4 wide = load4(p);
    v[0] = wide.x, v[1 % N] = wide.y, v[2 % N] = wide.z, v[3 % N] = wide.w;
}

template <int N> __device__ __forceinline__ void store(float* p, const float (&v)[N]) {
    if (N == 1) p[0] = v[0];
    else store4(p, make_float4(v[0], v[1 % N], v[2 % N], v[3 % N]));
}

// The N values from w on by the rule; `value`: what they become. Parts of g are `step` apart.
template <int N>
__device__ __forceinline__ void apply(float* w, float* v, const float* g, size_t step, Rule rule,
                                      float (&value)[N]) {
    float speed[N], slope[N];
    load(w, value);
    load(v, speed);
    load(g, slope);
#pragma unroll 4
    for (int s = 1; s < SPLITS; s++) {
        float part[N];
        load(g + s * step, part);
#pragma unroll
        for (int q = 0; q < N; q++) slope[q] = __fadd_rn(slope[q], part[q]);
    }
#pragma unroll
    for (int q = 0; q < N; q++) rule.apply(value[q], speed[q], slope[q]);
    store(v, speed);
    store(w, value);
}

extern "C" __global__ void __launch_bounds__(256)
update(EACH(float* __restrict__, w), EACH(float* __restrict__, v),
       EACH(const float* __restrict__, g), float momentum, float decay, float rate,
       EACH(float* __restrict__, bias_w), EACH(float* __restrict__, bias_v),
       EACH(const float* __restrict__, bias_g), float bias_momentum, float bias_decay,
       float bias_rate, EACH(bfloat16* __restrict__, factors),
       EACH(const float* __restrict__, loss), EACH(const float* __restrict__, scaled)) {
    OWN(w);
    OWN(v);
    OWN(g);
    OWN(bias_w);
    OWN(bias_v);
    OWN(bias_g);
    OWN(factors);
    OWN(loss);
    OWN(scaled);
    if (!counts(loss)) return;
    int block = block_x();
    if (block < WEIGHT_BLOCKS) {
        int i = (block * 256 + threadIdx.x) * PER;
        if (i >= COUNT || !w) return;
        if (scaled) rate = scaled[0], decay = scaled[1];
        float value[PER];
        apply(w + i, v + i, g + i, COUNT, {momentum, decay, rate}, value);
        if (BF16 && factors) write_factors(factors, i, value);
        return;
    }
    int i = ((block - WEIGHT_BLOCKS) * 256 + threadIdx.x) * BIAS_PER;
    if (i >= BIASES || !bias_w) return;
    float value[BIAS_PER];
    const float* slopes = SPLITS > 1 ? g + (size_t)SPLITS * COUNT : bias_g;
    Rule rule{bias_momentum, bias_decay, bias_rate};
    apply(bias_w + i, bias_v + i, slopes + i, BIASES, rule, value);
}

extern "C" __global__ void __launch_bounds__(256)
round_off(const float* __restrict__ w, bfloat16* __restrict__ factors) {
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    float value[PER];
    load(w + i, value);
    write_factors(factors, i, value);
}
