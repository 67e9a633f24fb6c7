// Group normalisation (+ SiLU) on channels-last tensors, float or bfloat16, forward and backward, for training on a CPU.
// torch's own is several times slower here, and small networks spend most of their time in it.
#include <torch/extension.h>
#include <ATen/Parallel.h>
#include <cstring>
#include <vector>

namespace {

struct Shape { int64_t n, c, hw, groups, per; };

Shape shape_of(const at::Tensor& x, int64_t groups) {
  return {x.size(0), x.size(1), x.size(2) * x.size(3), groups, x.size(1) / groups};
}

// the bound keeps exp finite: with -ffast-math, 1 / infinity is NaN
inline float sigmoid(float y) { return 1.0f / (1.0f + std::exp(std::min(-y, 80.0f))); }

// bfloat16 is the upper half of a float; written so that the compiler can vectorise it
using Half = uint16_t;
inline float load(float v) { return v; }
inline float load(Half v) { uint32_t u = uint32_t(v) << 16; float f; std::memcpy(&f, &u, 4); return f; }
inline void store(float& out, float v) { out = v; }
inline void store(Half& out, float v) {
  uint32_t u; std::memcpy(&u, &v, 4);
  out = Half((u + 0x7fff + ((u >> 16) & 1)) >> 16);  // to nearest, ties to even
}

template <typename T> T* data(const at::Tensor& x) { return reinterpret_cast<T*>(x.data_ptr()); }

template <typename T>
std::vector<at::Tensor> forward_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                   int64_t groups, double eps, bool silu) {
  auto s = shape_of(x, groups);
  auto y = at::empty_like(x);
  auto mean = at::empty({s.n, groups}, weight.options()), rstd = at::empty({s.n, groups}, weight.options());
  const T* px = data<T>(x);
  T* py = data<T>(y);
  const float *w = data<float>(weight), *b = data<float>(bias);
  float *pm = data<float>(mean), *pr = data<float>(rstd);
  at::parallel_for(0, s.n, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sums(s.c), squares(s.c), scales(s.c), shifts(s.c);
    float *__restrict sum = sums.data(), *__restrict square = squares.data();
    float *__restrict scale = scales.data(), *__restrict shift = shifts.data();
    for (int64_t i = begin; i < end; i++) {
      const T* xi = px + i * s.c * s.hw;
      const float *wi = w + i * s.c, *bi = b + i * s.c;
      T* yi = py + i * s.c * s.hw;
      std::fill(sums.begin(), sums.end(), 0.f);
      std::fill(squares.begin(), squares.end(), 0.f);
      for (int64_t p = 0; p < s.hw; p++) {
        const T* __restrict row = xi + p * s.c;
        #pragma omp simd
        for (int64_t c = 0; c < s.c; c++) { float v = load(row[c]); sum[c] += v; square[c] += v * v; }
      }
      for (int64_t g = 0; g < groups; g++) {
        double total = 0, all = 0;
        for (int64_t c = g * s.per; c < (g + 1) * s.per; c++) { total += sum[c]; all += square[c]; }
        double count = double(s.per * s.hw), m = total / count;
        double r = 1.0 / std::sqrt(std::max(all / count - m * m, 0.0) + eps);
        pm[i * groups + g] = m; pr[i * groups + g] = r;
        for (int64_t c = g * s.per; c < (g + 1) * s.per; c++) { scale[c] = wi[c] * r; shift[c] = bi[c] - m * r * wi[c]; }
      }
      for (int64_t p = 0; p < s.hw; p++) {
        const T* __restrict row = xi + p * s.c;
        T* __restrict out = yi + p * s.c;
        if (silu)
          #pragma omp simd
          for (int64_t c = 0; c < s.c; c++) { float y0 = load(row[c]) * scale[c] + shift[c]; store(out[c], y0 * sigmoid(y0)); }
        else
          #pragma omp simd
          for (int64_t c = 0; c < s.c; c++) store(out[c], load(row[c]) * scale[c] + shift[c]);
      }
    }
  });
  return {y, mean, rstd};
}

template <typename T>
std::vector<at::Tensor> backward_of(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                                    const at::Tensor& bias, const at::Tensor& mean, const at::Tensor& rstd,
                                    int64_t groups, bool silu) {
  auto s = shape_of(x, groups);
  auto dx = at::empty_like(x);
  auto dws = at::empty({s.n, s.c}, weight.options()), dbs = at::empty({s.n, s.c}, weight.options());
  const T *pg = data<T>(grad), *px = data<T>(x);
  T* pd = data<T>(dx);
  const float *w = data<float>(weight), *b = data<float>(bias), *pm = data<float>(mean), *pr = data<float>(rstd);
  float *pw = data<float>(dws), *pb = data<float>(dbs);
  at::parallel_for(0, s.n, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> kept(8 * s.c);
    auto part = [&](int64_t k) { return kept.data() + k * s.c; };
    float *__restrict scale = part(0), *__restrict shift = part(1), *__restrict m = part(2), *__restrict r = part(3);
    float *__restrict k1 = part(4), *__restrict k2 = part(5), *__restrict k3 = part(6), *__restrict h = part(7);
    for (int64_t i = begin; i < end; i++) {
      const T *xi = px + i * s.c * s.hw, *gi = pg + i * s.c * s.hw;
      const float *wi = w + i * s.c, *bi = b + i * s.c;
      T* di = pd + i * s.c * s.hw;
      float *__restrict dw = pw + i * s.c, *__restrict db = pb + i * s.c;
      for (int64_t c = 0; c < s.c; c++) {
        m[c] = pm[i * groups + c / s.per]; r[c] = pr[i * groups + c / s.per];
        scale[c] = wi[c] * r[c]; shift[c] = bi[c] - m[c] * r[c] * wi[c];
        dw[c] = 0; db[c] = 0;
      }
      for (int64_t p = 0; p < s.hw; p++) {  // gradient before SiLU, kept in dx; sums per channel
        const T *__restrict row = xi + p * s.c, *__restrict g = gi + p * s.c;
        T* __restrict d = di + p * s.c;
        if (silu)
          #pragma omp simd
          for (int64_t c = 0; c < s.c; c++) {
            float y0 = load(row[c]) * scale[c] + shift[c], e = sigmoid(y0);
            h[c] = load(g[c]) * (e * (1.f + y0 * (1.f - e)));
          }
        else
          #pragma omp simd
          for (int64_t c = 0; c < s.c; c++) h[c] = load(g[c]);
        #pragma omp simd
        for (int64_t c = 0; c < s.c; c++) { db[c] += h[c]; dw[c] += h[c] * (load(row[c]) - m[c]) * r[c]; store(d[c], h[c]); }
      }
      float count = float(s.per * s.hw);
      for (int64_t g = 0; g < groups; g++) {
        float a = 0, q = 0;
        for (int64_t c = g * s.per; c < (g + 1) * s.per; c++) { a += db[c] * wi[c]; q += dw[c] * wi[c]; }
        for (int64_t c = g * s.per; c < (g + 1) * s.per; c++) {
          k1[c] = scale[c]; k2[c] = -q / count * r[c] * r[c]; k3[c] = -a / count * r[c] - k2[c] * m[c];
        }
      }
      for (int64_t p = 0; p < s.hw; p++) {
        const T* __restrict row = xi + p * s.c;
        T* __restrict d = di + p * s.c;
        #pragma omp simd
        for (int64_t c = 0; c < s.c; c++) store(d[c], load(d[c]) * k1[c] + load(row[c]) * k2[c] + k3[c]);
      }
    }
  });
  return {dx, dws, dbs};
}

}  // namespace

// x (n, c, h, w) channels-last, weight and bias (n, c) float -> y as x, mean (n, groups), rstd (n, groups)
std::vector<at::Tensor> forward(at::Tensor x, at::Tensor weight, at::Tensor bias, int64_t groups, double eps, bool silu) {
  auto of = x.scalar_type() == at::kBFloat16 ? forward_of<Half> : forward_of<float>;
  return of(x, weight, bias, groups, eps, silu);
}

// grad as x -> gradients of x, weight and bias
std::vector<at::Tensor> backward(at::Tensor grad, at::Tensor x, at::Tensor weight, at::Tensor bias, at::Tensor mean,
                                 at::Tensor rstd, int64_t groups, bool silu) {
  auto of = x.scalar_type() == at::kBFloat16 ? backward_of<Half> : backward_of<float>;
  return of(grad, x, weight, bias, mean, rstd, groups, silu);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &forward);
  m.def("backward", &backward);
}
