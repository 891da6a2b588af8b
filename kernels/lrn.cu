// Local response normalisation (paper section 3.3): y = x / d^beta, d = K + A * sum of x^2 over a
// neighbourhood of SIZE maps at the same pixel (WITHIN = 0), or of SIZE x SIZE pixels of the same
// map (WITHIN = 1). ALPHA is already divided if the config asks for that.
//
//   x, y, scale (d), gradient (to y), out (to x)  [IMAGES][H][W][C]; the forward pass without a
//   backward pass to come is given no scale
//
// Grid: elements / 256. A thread makes one element; its neighbours come out of the cache.
constexpr int COUNT = IMAGES * H * W * C;
constexpr int HALF = SIZE / 2;

// Calls visit(index) for each neighbour of element i, in rising order.
template <class Visit> __device__ __forceinline__ void neighbours(int i, Visit visit) {
    if (!WITHIN) {
        int c = i % C;
        for (int j = max(c - HALF, 0); j <= min(c + HALF, C - 1); j++) visit(i - c + j);
        return;
    }
    int x = i / C % W, y = i / C / W % H;
    for (int v = max(y - HALF, 0); v <= min(y + HALF, H - 1); v++) {
        for (int u = max(x - HALF, 0); u <= min(x + HALF, W - 1); u++) {
            visit(i + ((v - y) * W + u - x) * C);
        }
    }
}

// d^-beta; for the paper's 3/4 by square roots, cheaper than powf.
__device__ __forceinline__ float inverse_power(float d) {
    if (float(BETA) != 0.75f) return powf(d, -float(BETA));
    float root = sqrtf(d);
    return 1.f / (root * sqrtf(root));
}

extern "C" __global__ void __launch_bounds__(256)
lrn_forward(const float* __restrict__ x, float* __restrict__ scale, float* __restrict__ y) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= COUNT) return;
    float sum = 0.f;
    neighbours(i, [&](int j) { sum = fmaf(x[j], x[j], sum); });
    float d = fmaf(float(ALPHA), sum, float(K));
    if (scale) scale[i] = d;
    y[i] = x[i] * inverse_power(d);
}

// dx_i = dy_i d_i^-beta - 2 alpha beta x_i * sum over i's neighbours j of dy_j x_j d_j^-beta / d_j.
// The output is not read: layers above may have changed it in place.
extern "C" __global__ void __launch_bounds__(256)
lrn_backward(const float* __restrict__ x, const float* __restrict__ scale,
             const float* __restrict__ gradient, float* __restrict__ out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= COUNT) return;
    float sum = 0.f;
    neighbours(i, [&](int j) {
        float d = scale[j];
        sum = fmaf(gradient[j] * x[j], inverse_power(d) / d, sum);
    });
    float direct = gradient[i] * inverse_power(scale[i]);
    out[i] = fmaf(-2.f * float(ALPHA) * float(BETA) * x[i], sum, direct);
}
