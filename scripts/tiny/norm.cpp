// Group normalisation (+ SiLU) on channels-last float tensors, forward and backward, for training on a CPU.
// torch's own is several times slower here, and small networks spend most of their time in it.
#include <torch/extension.h>
#include <ATen/Parallel.h>
#include <vector>

namespace {

struct Shape { int64_t n, c, hw, groups, per; };

Shape shape_of(const at::Tensor& x, int64_t groups) {
  return {x.size(0), x.size(1), x.size(2) * x.size(3), groups, x.size(1) / groups};
}

// the bound keeps exp finite: with -ffast-math, 1 / infinity is not a number
inline float sigmoid(float y) { return 1.0f / (1.0f + std::exp(std::min(-y, 80.0f))); }

}  // namespace

// x (n, c, h, w) channels-last, weight and bias (n, c) -> y, mean (n, groups), rstd (n, groups)
std::vector<at::Tensor> forward(at::Tensor x, at::Tensor weight, at::Tensor bias, int64_t groups, double eps, bool silu) {
  auto s = shape_of(x, groups);
  auto y = at::empty_like(x);
  auto mean = at::empty({s.n, groups}, x.options()), rstd = at::empty({s.n, groups}, x.options());
  const float *px = x.data_ptr<float>(), *w = weight.data_ptr<float>(), *b = bias.data_ptr<float>();
  float *py = y.data_ptr<float>(), *pm = mean.data_ptr<float>(), *pr = rstd.data_ptr<float>();
  at::parallel_for(0, s.n, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(s.c), square(s.c), scale(s.c), shift(s.c);
    for (int64_t i = begin; i < end; i++) {
      const float* __restrict xi = px + i * s.c * s.hw, *wi = w + i * s.c, *bi = b + i * s.c;
      float* yi = py + i * s.c * s.hw;
      std::fill(sum.begin(), sum.end(), 0.f);
      std::fill(square.begin(), square.end(), 0.f);
      for (int64_t p = 0; p < s.hw; p++) {
        const float* row = xi + p * s.c;
        #pragma omp simd
        for (int64_t c = 0; c < s.c; c++) { sum[c] += row[c]; square[c] += row[c] * row[c]; }
      }
      for (int64_t g = 0; g < groups; g++) {
        double total = 0, squares = 0;
        for (int64_t c = g * s.per; c < (g + 1) * s.per; c++) { total += sum[c]; squares += square[c]; }
        double count = double(s.per * s.hw), m = total / count;
        double r = 1.0 / std::sqrt(std::max(squares / count - m * m, 0.0) + eps);
        pm[i * groups + g] = m; pr[i * groups + g] = r;
        for (int64_t c = g * s.per; c < (g + 1) * s.per; c++) { scale[c] = wi[c] * r; shift[c] = bi[c] - m * r * wi[c]; }
      }
      for (int64_t p = 0; p < s.hw; p++) {
        const float* row = xi + p * s.c;
        float* out = yi + p * s.c;
        if (silu)
          #pragma omp simd
          for (int64_t c = 0; c < s.c; c++) { float y0 = row[c] * scale[c] + shift[c]; out[c] = y0 * sigmoid(y0); }
        else
          #pragma omp simd
          for (int64_t c = 0; c < s.c; c++) out[c] = row[c] * scale[c] + shift[c];
      }
    }
  });
  return {y, mean, rstd};
}

// grad (n, c, h, w) -> gradients of x, weight and bias
std::vector<at::Tensor> backward(at::Tensor grad, at::Tensor x, at::Tensor weight, at::Tensor bias, at::Tensor mean,
                                 at::Tensor rstd, int64_t groups, bool silu) {
  auto s = shape_of(x, groups);
  auto dx = at::empty_like(x);
  auto dws = at::empty({s.n, s.c}, x.options()), dbs = at::empty({s.n, s.c}, x.options());
  const float *pg = grad.data_ptr<float>(), *px = x.data_ptr<float>(), *w = weight.data_ptr<float>();
  const float *b = bias.data_ptr<float>(), *pm = mean.data_ptr<float>(), *pr = rstd.data_ptr<float>();
  float *pd = dx.data_ptr<float>(), *pw = dws.data_ptr<float>(), *pb = dbs.data_ptr<float>();
  at::parallel_for(0, s.n, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scale(s.c), shift(s.c), m(s.c), r(s.c), k1(s.c), k2(s.c), k3(s.c);
    for (int64_t i = begin; i < end; i++) {
      const float* __restrict xi = px + i * s.c * s.hw, *gi = pg + i * s.c * s.hw, *wi = w + i * s.c, *bi = b + i * s.c;
      float* __restrict di = pd + i * s.c * s.hw, *dw = pw + i * s.c, *db = pb + i * s.c;
      #pragma omp simd
      for (int64_t c = 0; c < s.c; c++) {
        m[c] = pm[i * groups + c / s.per]; r[c] = pr[i * groups + c / s.per];
        scale[c] = wi[c] * r[c]; shift[c] = bi[c] - m[c] * r[c] * wi[c];
        dw[c] = 0; db[c] = 0;
      }
      const float* __restrict by = scale.data(), *__restrict plus = shift.data();
      for (int64_t p = 0; p < s.hw; p++) {  // gradient before SiLU, kept in dx; sums per channel
        const float* __restrict row = xi + p * s.c, *g = gi + p * s.c;
        float* d = di + p * s.c;
        if (silu)
          #pragma omp simd
          for (int64_t c = 0; c < s.c; c++) {
            float y0 = row[c] * by[c] + plus[c], e = sigmoid(y0);
            d[c] = g[c] * (e * (1.f + y0 * (1.f - e)));
          }
        else
          #pragma omp simd
          for (int64_t c = 0; c < s.c; c++) d[c] = g[c];
        #pragma omp simd
        for (int64_t c = 0; c < s.c; c++) { db[c] += d[c]; dw[c] += d[c] * (row[c] - m[c]) * r[c]; }
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
        const float* row = xi + p * s.c;
        float* d = di + p * s.c;
        #pragma omp simd
        for (int64_t c = 0; c < s.c; c++) d[c] = d[c] * k1[c] + row[c] * k2[c] + k3[c];
      }
    }
  });
  return {dx, dws, dbs};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &forward);
  m.def("backward", &backward);
}
