// Local response normalisation (paper section 3.3): y = x / d^beta, d = K + A * sum of x^2 over a
// neighbourhood of SIZE maps at the same pixel (WITHIN = 0), or of SIZE x SIZE pixels of the same
// map (WITHIN = 1). ALPHA is already divided if the config asks for that.
//
//   x, y, scale (d), gradient (to y), out (to x)  [IMAGES][H][W][C]
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

extern "C" __global__ void __launch_bounds__(256)
lrn_forward(const float* __restrict__ x, float* __restrict__ scale, float* __restrict__ y) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= COUNT) return;
    float sum = 0.f;
    neighbours(i, [&](int j) { sum = fmaf(x[j], x[j], sum); });
    float d = fmaf(float(ALPHA), sum, float(K));
    scale[i] = d;
    y[i] = x[i] * powf(d, -float(BETA));
}

// dx_i = dy_i d_i^-beta - 2 alpha beta x_i * sum over i's neighbours j of dy_j y_j / d_j
extern "C" __global__ void __launch_bounds__(256)
lrn_backward(const float* __restrict__ x, const float* __restrict__ y,
             const float* __restrict__ scale, const float* __restrict__ gradient,
             float* __restrict__ out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= COUNT) return;
    float sum = 0.f;
    neighbours(i, [&](int j) { sum = fmaf(gradient[j] * y[j], 1.f / scale[j], sum); });
    float direct = gradient[i] * powf(scale[i], -float(BETA));
    out[i] = fmaf(-2.f * float(ALPHA) * float(BETA) * x[i], sum, direct);
}
