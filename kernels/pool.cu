// Pooling over SIZE x SIZE windows every STRIDE pixels, clipped to the map (paper section 3.4).
//
//   x, out      [IMAGES][IN_H][IN_W][C]
//   y, gradient [IMAGES][OUT_H][OUT_W][C]
//   choice      like y, 16 bits: which pixel of the window (row * SIZE + column) was the
//               maximum; none where no backward pass will come
//
// The gradient of a maximum goes to the first of equal ones in row-major order. The backward passes
// gather: an input pixel adds up the windows that hold it, in rising order, so nothing is added
// atomically. Grid: elements of what is written / 256.
constexpr int OUT_COUNT = IMAGES * OUT_H * OUT_W * C;
constexpr int IN_COUNT = IMAGES * IN_H * IN_W * C;

// The part of a window inside the map: rows y0 to y1 and columns x0 to x1, without the last.
struct Window {
    int y0, y1, x0, x1;
    __device__ __forceinline__ Window(int oy, int ox) {
        y0 = oy * STRIDE, y1 = min(y0 + SIZE, IN_H);
        x0 = ox * STRIDE, x1 = min(x0 + SIZE, IN_W);
    }
    __device__ __forceinline__ int pixels() const { return (y1 - y0) * (x1 - x0); }
};

// Calls visit(oy, ox) for each window that holds input pixel (y, x), in rising order.
template <class Visit> __device__ __forceinline__ void windows(int y, int x, Visit visit) {
    int oy0 = y < SIZE ? 0 : (y - SIZE) / STRIDE + 1, oy1 = min(y / STRIDE, OUT_H - 1);
    int ox0 = x < SIZE ? 0 : (x - SIZE) / STRIDE + 1, ox1 = min(x / STRIDE, OUT_W - 1);
    for (int oy = oy0; oy <= oy1; oy++) {
        for (int ox = ox0; ox <= ox1; ox++) visit(oy, ox);
    }
}

extern "C" __global__ void __launch_bounds__(256)
max_forward(const float* __restrict__ x, float* __restrict__ y,
            unsigned short* __restrict__ choice) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= OUT_COUNT) return;
    Window w(i / C / OUT_W % OUT_H, i / C % OUT_W);
    const float* map = x + i / C / OUT_W / OUT_H * IN_H * IN_W * C + i % C;
    float best = map[(w.y0 * IN_W + w.x0) * C];
    int chosen = 0;
    for (int v = w.y0; v < w.y1; v++) {
        for (int u = w.x0; u < w.x1; u++) {
            float value = map[(v * IN_W + u) * C];
            // Not a number wins and stays: a diverged run must show itself.
            if (value > best || value != value) best = value, chosen = (v - w.y0) * SIZE + u - w.x0;
        }
    }
    y[i] = best;
    if (choice) choice[i] = (unsigned short)chosen;
}

extern "C" __global__ void __launch_bounds__(256)
max_backward(const float* __restrict__ gradient, const unsigned short* __restrict__ choice,
             float* __restrict__ out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= IN_COUNT) return;
    int x = i / C % IN_W, y = i / C / IN_W % IN_H;
    int image = i / C / IN_W / IN_H * OUT_H * OUT_W * C + i % C;
    float sum = 0.f;
    windows(y, x, [&](int oy, int ox) {
        int j = image + (oy * OUT_W + ox) * C;
        int mine = (y - oy * STRIDE) * SIZE + x - ox * STRIDE;
        if (choice[j] == mine) sum = __fadd_rn(sum, gradient[j]);
    });
    out[i] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
average_forward(const float* __restrict__ x, float* __restrict__ y) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= OUT_COUNT) return;
    Window w(i / C / OUT_W % OUT_H, i / C % OUT_W);
    const float* map = x + i / C / OUT_W / OUT_H * IN_H * IN_W * C + i % C;
    float sum = 0.f;
    for (int v = w.y0; v < w.y1; v++) {
        for (int u = w.x0; u < w.x1; u++) sum = __fadd_rn(sum, map[(v * IN_W + u) * C]);
    }
    y[i] = __fdiv_rn(sum, float(w.pixels()));
}

extern "C" __global__ void __launch_bounds__(256)
average_backward(const float* __restrict__ gradient, float* __restrict__ out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= IN_COUNT) return;
    int image = i / C / IN_W / IN_H * OUT_H * OUT_W * C + i % C;
    float sum = 0.f;
    windows(i / C / IN_W % IN_H, i / C % IN_W, [&](int oy, int ox) {
        float share = __fdiv_rn(gradient[image + (oy * OUT_W + ox) * C],
                                float(Window(oy, ox).pixels()));
        sum = __fadd_rn(sum, share);
    });
    out[i] = sum;
}
