// A harbour at dusk: containers waiting on a quay, a beacon, and water that mirrors them.
// Drawn without radiosity, photons or jitter, so that a strip depends on nothing but this file.
#version 3.7;
global_settings { assumed_gamma 1.0 max_trace_level 6 }

#declare Dusk = rgb <0.98, 0.55, 0.28>;
#declare Night = rgb <0.05, 0.09, 0.22>;

camera { location <-11, 4.6, -19> look_at <4.2, 3.6, 4> angle 54 right x*image_width/image_height }
light_source { <-60, 28, 40> color rgb <1.5, 0.85, 0.5> parallel point_at <0, 0, 0> }
light_source { <20, 60, -40> color rgb <0.25, 0.3, 0.45> shadowless }

sky_sphere {
  pigment {
    gradient y
    color_map { [0.00 Dusk] [0.12 rgb <0.75, 0.36, 0.34>] [0.35 rgb <0.22, 0.2, 0.4>] [1.00 Night] }
  }
}

// Water.
plane {
  y, 0
  pigment { rgb <0.02, 0.05, 0.08> }
  normal { bumps 0.12 scale <1.6, 1, 0.5> }
  finish { reflection { 0.25, 0.85 fresnel on } specular 0.6 roughness 0.004 ambient 0 diffuse 0.2 conserve_energy }
  interior { ior 1.33 }
}

// Quay.
box { <-4, -1, 0>, <30, 0.7, 30> pigment { rgb <0.32, 0.31, 0.33> } normal { granite 0.08 scale 0.4 } finish { diffuse 0.7 ambient 0.03 } }

#macro Container(Colour)
  union {
    box { <0, 0, 0>, <6, 2.4, 2.4> }
    #for (I, 0, 19)
      cylinder { <0.15 + I*0.3, 0.15, 0>, <0.15 + I*0.3, 2.25, 0>, 0.07 }
    #end
    box { <-0.03, -0.03, -0.03>, <0.12, 2.43, 2.43> }
    box { <5.88, -0.03, -0.03>, <6.03, 2.43, 2.43> }
    texture {
      pigment { Colour }
      normal { wrinkles 0.1 scale 0.8 }
      finish { ambient 0.04 diffuse 0.75 specular 0.25 roughness 0.03 reflection 0.04 }
    }
  }
#end

#declare Paint = array[6] { rgb <0.75, 0.18, 0.12>, rgb <0.1, 0.28, 0.5>, rgb <0.85, 0.6, 0.16>, rgb <0.14, 0.4, 0.3>, rgb <0.8, 0.78, 0.72>, rgb <0.45, 0.14, 0.3> };
#declare Seed = seed(20);
#for (Row, 0, 2)
  #for (Column, 0, 3)
    #declare Height = 1 + int(rand(Seed)*3.2);
    #for (Level, 0, Height - 1)
      object {
        Container(Paint[mod(int(rand(Seed)*60), 6)])
        translate <-2.2 + Column*6.6 + rand(Seed)*0.2, 0.7 + Level*2.46, 1.4 + Row*4.1 + rand(Seed)*0.15>
      }
    #end
  #end
#end

// A beacon on the quay's corner.
union {
  cylinder { <0, 0, 0>, <0, 4.2, 0>, 0.22 pigment { rgb 0.85 } }
  cone { <0, 4.2, 0>, 0.55, <0, 4.9, 0>, 0.1 pigment { rgb <0.7, 0.1, 0.08> } }
  sphere { <0, 4.35, 0>, 0.3 pigment { rgb <1, 0.9, 0.6> } finish { ambient 2.2 } }
  finish { ambient 0.05 diffuse 0.8 specular 0.4 }
  translate <-3.3, 0.7, 0.7>
}
light_source { <-3.3, 5.1, 0.2> color rgb <0.9, 0.7, 0.4> fade_distance 3 fade_power 2 }

// Buoys.
#for (I, 0, 4)
  union {
    sphere { 0, 0.32 pigment { rgb <0.85, 0.3, 0.05> } }
    cylinder { <0, 0.2, 0>, <0, 0.85, 0>, 0.04 pigment { rgb 0.9 } }
    finish { specular 0.7 roughness 0.02 diffuse 0.8 ambient 0.05 }
    translate <-6.5 + I*2.3, 0.02, -4.2 - mod(I*3, 4)*0.9>
  }
#end
