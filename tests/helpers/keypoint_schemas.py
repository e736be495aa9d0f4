"""Landmark names of public data sets and tools, with what mirrors what.

Each schema names the documentation or data set that has these names. Its pairs
are written down from what the words mean, not by the package.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Schema:
  """The landmarks of a data set.

  Attributes:
    source: Where the names come from.
    pairs: (left, right) names.
    middle: The names that no mirrored image exchanges, or that do not tell.
  """

  source: str
  pairs: tuple[tuple[str, str], ...] = ()
  middle: tuple[str, ...] = ()


def sided(left: str, right: str, words: str) -> tuple[tuple[str, str], ...]:
  """Pairs of two patterns with {} for each of the words between commas."""
  return tuple(
    (left.format(word.strip()), right.format(word.strip()))
    for word in words.split(',')
  )


def words(text: str) -> tuple[str, ...]:
  return tuple(word.strip() for word in text.split(','))


def numbers(pattern: str, count: int, first: int = 0) -> tuple[str, ...]:
  return tuple(pattern.format(i) for i in range(first, first + count))


def fingers(pattern: str) -> str:
  return ','.join(
    pattern.format(f'{finger}{i}')
    for finger in (
      'thumb',
      'forefinger',
      'middle_finger',
      'ring_finger',
      'pinky_finger',
    )
    for i in range(1, 5)
  )


LEFT_RIGHT = ('left_{}', 'right_{}')
LIMBS = 'shoulder,elbow,wrist,hip,knee,ankle'
COCO = sided(*LEFT_RIGHT, f'eye,ear,{LIMBS}')
DEEPFASHION_2 = {
  **{'sss': 25, 'lss': 33, 'sso': 31, 'lso': 39, 'vest': 15, 'sling': 15},
  **{'short': 10, 'trousers': 14, 'skirt': 8, 'ssd': 29, 'lsd': 37, 'vd': 19},
  **{'sd': 19},
}

SCHEMAS = {
  # People.
  'COCO': Schema('COCO person_keypoints', COCO, ('nose',)),
  'COCO-WholeBody': Schema(
    'COCO-WholeBody',
    (
      *COCO,
      *sided(*LEFT_RIGHT, 'big_toe,small_toe,heel,hand_root'),
      *sided(*LEFT_RIGHT, fingers('{}')),
    ),
    ('nose', *numbers('face-{}', 68)),
  ),
  'LSP': Schema(
    'Leeds Sports Pose, README',
    sided('Left {}', 'Right {}', 'ankle,knee,hip,wrist,elbow,shoulder'),
    ('Neck', 'Head top'),
  ),
  'MPII': Schema(
    'MPII Human Pose, documentation',
    sided('l {}', 'r {}', 'ankle,knee,hip,wrist,elbow,shoulder'),
    ('pelvis', 'thorax', 'upper neck', 'head top'),
  ),
  'MPII-TRB': Schema(
    'Triplet Representation of human Body',
    (
      *sided(*LEFT_RIGHT, f'{LIMBS},neck'),
      *sided(
        'medial_left_{}', 'medial_right_{}', 'shoulder,bow,wrist,hip,knee,ankle'
      ),
      *sided(
        'lateral_left_{}',
        'lateral_right_{}',
        'shoulder,bow,wrist,hip,knee,ankle',
      ),
    ),
    ('head', 'neck'),
  ),
  'AIC': Schema(
    'AI Challenger', sided(*LEFT_RIGHT, LIMBS), ('head_top', 'neck')
  ),
  'CrowdPose': Schema(
    'CrowdPose', sided(*LEFT_RIGHT, LIMBS), ('top_head', 'neck')
  ),
  'PoseTrack18': Schema(
    'PoseTrack18',
    sided(*LEFT_RIGHT, f'ear,{LIMBS}'),
    ('nose', 'head_bottom', 'head_top'),
  ),
  'JHMDB': Schema(
    'JHMDB and Sub-JHMDB',
    sided(*LEFT_RIGHT, LIMBS),
    ('neck', 'belly', 'head'),
  ),
  'MHP': Schema(
    'Multi-Human Parsing',
    sided(*LEFT_RIGHT, LIMBS),
    ('pelvis', 'thorax', 'upper_neck', 'head_top'),
  ),
  'H36M': Schema(
    'Human3.6M in mmpose',
    sided(*LEFT_RIGHT, 'hip,knee,foot,shoulder,elbow,wrist'),
    ('root', 'spine', 'thorax', 'neck_base', 'head'),
  ),
  'H36M, own': Schema(
    'Human3.6M in VideoPose3D',
    sided('L{}', 'R{}', 'Hip,Knee,Foot,Shoulder,Elbow,Wrist,FootTip'),
    words('Hip,Spine,Thorax,Neck/Nose,Head'),
  ),
  'MPI-INF-3DHP': Schema(
    'MPI-INF-3DHP',
    sided(*LEFT_RIGHT, f'clavicle,{LIMBS},hand,foot,toe'),
    words('spine3,spine4,spine2,spine,pelvis,neck,head,head_top'),
  ),
  'BODY_25': Schema(
    'OpenPose',
    sided(
      'L{}',
      'R{}',
      'Shoulder,Elbow,Wrist,Hip,Knee,Ankle,Eye,Ear,BigToe,SmallToe,Heel',
    ),
    ('Nose', 'Neck', 'MidHip'),
  ),
  'Halpe26': Schema(
    'Halpe Full-Body, with its own Rknee',
    (
      *sided(
        'L{}',
        'R{}',
        'Eye,Ear,Shoulder,Elbow,Wrist,Hip,Ankle,BigToe,SmallToe,Heel',
      ),
      ('LKnee', 'Rknee'),
    ),
    ('Nose', 'Head', 'Neck', 'Hip'),
  ),
  'Human-Art 21': Schema(
    'Human-Art', (*COCO, *sided(*LEFT_RIGHT, 'finger,toe')), ('nose',)
  ),
  'ExLPose': Schema('ExLPose', sided(*LEFT_RIGHT, LIMBS), ('neck', 'head')),
  'JRDB-Pose': Schema(
    'JRDB-Pose',
    sided('{} left', '{} right', 'eye,shoulder,elbow,hip,wrist,knee,foot')[1:]
    + (('left eye', 'right eye'),),
    words('head,center shoulder,center hip'),
  ),
  'BlazePose': Schema(
    'MediaPipe Pose',
    (
      *sided(*LEFT_RIGHT, f'eye_inner,eye,eye_outer,ear,{LIMBS},pinky'),
      *sided(*LEFT_RIGHT, 'index,thumb,heel,foot_index'),
      ('mouth_left', 'mouth_right'),
    ),
    ('nose',),
  ),
  'Kinect': Schema(
    'Kinect v2',
    sided(
      '{}Left',
      '{}Right',
      'Shoulder,Elbow,Wrist,Hand,Hip,Knee,Ankle,Foot,HandTip,Thumb',
    ),
    words('SpineBase,SpineMid,Neck,Head,SpineShoulder'),
  ),
  'Azure Kinect': Schema(
    'Azure Kinect',
    sided(
      '{}_LEFT',
      '{}_RIGHT',
      'CLAVICLE,SHOULDER,ELBOW,WRIST,HAND,HANDTIP,THUMB,HIP,KNEE,ANKLE,FOOT,EYE,EAR',
    ),
    words('PELVIS,SPINE_NAVEL,SPINE_CHEST,NECK,HEAD,NOSE'),
  ),
  'SMPL': Schema(
    'SMPL',
    sided(
      'L_{}', 'R_{}', 'Hip,Knee,Ankle,Foot,Collar,Shoulder,Elbow,Wrist,Hand'
    ),
    words('Pelvis,Spine1,Spine2,Spine3,Neck,Head'),
  ),
  'BVH': Schema(
    'CMU motion capture',
    sided(
      'Left{}',
      'Right{}',
      'UpLeg,Leg,Foot,ToeBase,Shoulder,Arm,ForeArm,Hand,HandIndex1',
    ),
    words('Hips,LowerBack,Spine,Spine1,Neck,Neck1,Head'),
  ),
  'Plug-in Gait': Schema(
    'Vicon Plug-in Gait; RBAK has no partner',
    sided(
      'L{}',
      'R{}',
      'FHD,BHD,SHO,UPA,ELB,FRM,WRA,WRB,FIN,ASI,PSI,THI,KNE,TIB,ANK,HEE,TOE',
    ),
    words('C7,T10,CLAV,STRN,RBAK'),
  ),
  # Faces.
  'AFLW': Schema(
    'AFLW, by its own names',
    (
      ('LeftBrowLeftCorner', 'RightBrowRightCorner'),
      ('LeftBrowCenter', 'RightBrowCenter'),
      ('LeftBrowRightCorner', 'RightBrowLeftCorner'),
      ('LeftEyeLeftCorner', 'RightEyeRightCorner'),
      ('LeftEyeCenter', 'RightEyeCenter'),
      ('LeftEyeRightCorner', 'RightEyeLeftCorner'),
      ('LeftEar', 'RightEar'),
      ('NoseLeft', 'NoseRight'),
      ('MouthLeftCorner', 'MouthRightCorner'),
    ),
    words('NoseCenter,MouthCenter,ChinCenter'),
  ),
  'AFLW, numbers': Schema('AFLW in mmpose', (), numbers('kpt-{}', 19)),
  'WFLW': Schema('WFLW', (), numbers('kpt-{}', 98)),
  '300W': Schema('300W', (), numbers('{}', 68, first=1)),
  'COFW': Schema('COFW in mmpose', (), numbers('kpt-{}', 29)),
  'CelebA': Schema(
    'CelebA, list_landmarks_align',
    (('lefteye_x', 'righteye_x'), ('leftmouth_x', 'rightmouth_x')),
    ('nose_x',),
  ),
  'RetinaFace': Schema(
    'RetinaFace',
    (('left_eye', 'right_eye'), ('mouth_left', 'mouth_right')),
    ('nose',),
  ),
  'Facial Keypoints': Schema(
    'Kaggle Facial Keypoints Detection',
    (
      *sided(
        *LEFT_RIGHT,
        'eye_center,eye_inner_corner,eye_outer_corner,eyebrow_inner_end,eyebrow_outer_end',
      ),
      ('mouth_left_corner', 'mouth_right_corner'),
    ),
    words('nose_tip,mouth_center_top_lip,mouth_center_bottom_lip'),
  ),
  # Hands: one hand has no pairs, two have.
  'OneHand10K': Schema('OneHand10K', (), ('wrist', *words(fingers('{}')))),
  'FreiHAND': Schema('FreiHAND', (), ('wrist', *words(fingers('{}')))),
  'InterHand2.6M': Schema(
    'InterHand2.6M in mmpose',
    sided(*LEFT_RIGHT, f'{fingers("{}")},wrist'),
  ),
  'InterHand2.6M, own': Schema(
    'InterHand2.6M, skeleton.txt',
    sided(
      '{}_l',
      '{}_r',
      ','.join(
        [
          *(
            f'{f}{i}'
            for f in ('thumb', 'index', 'middle', 'ring', 'pinky')
            for i in (1, 2, 3, 4)
          ),
          'wrist',
        ]
      ),
    ),
  ),
  'MediaPipe Hands': Schema(
    'MediaPipe Hands',
    (),
    (
      'WRIST',
      *(
        f'{f}_{j}'
        for f in (
          'THUMB',
          'INDEX_FINGER',
          'MIDDLE_FINGER',
          'RING_FINGER',
          'PINKY',
        )
        for j in ('CMC', 'PIP', 'DIP', 'TIP')
      ),
    ),
  ),
  'NYU Hand': Schema(
    'NYU Hand Pose',
    (),
    (
      *(
        f'{f}_KNU{i}_{s}'
        for f in ('F1', 'F2', 'F3', 'F4', 'TH')
        for i in (3, 2, 1)
        for s in 'AB'
      ),
      *numbers('PALM_{}', 6, first=1),
    ),
  ),
  # Clothes.
  'FLD': Schema(
    'Fashion Landmark Detection in mmpose',
    sided('left {}', 'right {}', 'collar,sleeve,waistline,hem'),
  ),
  'FashionAI': Schema(
    'FashionAI Key Points Detection',
    (
      *sided(
        '{}_left',
        '{}_right',
        'neckline,shoulder,armpit,waistline,top_hem,waistband,hemline',
      ),
      *sided('cuff_left_{}', 'cuff_right_{}', 'in,out'),
      *sided('bottom_left_{}', 'bottom_right_{}', 'in,out'),
    ),
    ('center_front', 'crotch'),
  ),
  'DeepFashion2': Schema(
    'DeepFashion2 in mmpose',
    (),
    tuple(
      name
      for kind, count in DEEPFASHION_2.items()
      for name in numbers(f'{kind}_kpt{{}}', count, first=1)
    ),
  ),
  'DeepFashion2, numbers': Schema(
    "DeepFashion2's converter to COCO", (), numbers('{}', 294, first=1)
  ),
  # Animals.
  'AP-10K': Schema(
    'AP-10K',
    sided('L_{}', 'R_{}', 'Eye,Shoulder,Elbow,F_Paw,Hip,Knee,B_Paw'),
    words('Nose,Neck,Root of tail'),
  ),
  'AnimalPose': Schema(
    'Animal-Pose',
    sided(
      'L_{}', 'R_{}', 'Eye,EarBase,F_Elbow,B_Elbow,F_Knee,B_Knee,F_Paw,B_Paw'
    ),
    words('Nose,Throat,TailBase,Withers'),
  ),
  'ATRW': Schema(
    'Amur Tiger Re-identification in the Wild',
    sided(*LEFT_RIGHT, 'ear,shoulder,front_paw,hip,knee,back_paw'),
    words('nose,tail,center'),
  ),
  'Horse-10': Schema(
    'Horse-10; near and off are no sides of the picture',
    (),
    words(
      'Nose,Eye,Nearknee,Nearfrontfetlock,Nearfrontfoot,Offknee,'
      'Offfrontfetlock,Offfrontfoot,Shoulder,Midshoulder,Elbow,Girth,Wither,'
      'Nearhindhock,Nearhindfetlock,Nearhindfoot,Hip,Stifle,Offhindhock,'
      'Offhindfetlock,Offhindfoot,Ischium'
    ),
  ),
  'MacaquePose': Schema('MacaquePose', COCO, ('nose',)),
  'Zebra': Schema(
    "Grevy's zebra of DeepPoseKit",
    sided('{}L1', '{}R1', 'foreleg,hindleg'),
    words('snout,head,neck,tailbase,tailtip'),
  ),
  'Locust': Schema(
    'Desert locust of DeepPoseKit',
    (
      *sided('{}L', '{}R', 'anttip,antbase,eye'),
      *(
        pair
        for leg in ('foreleg', 'midleg', 'hindleg')
        for pair in sided(f'{leg}L{{}}', f'{leg}R{{}}', '1,2,3,4')
      ),
    ),
    words('head,neck,thorax,abdomen1,abdomen2'),
  ),
  'Fly': Schema(
    'Vinegar fly of DeepPoseKit',
    (
      *sided('{}L', '{}R', 'eye,wing'),
      *(
        pair
        for leg in ('foreleg', 'midleg', 'hindleg')
        for pair in sided(f'{leg}L{{}}', f'{leg}R{{}}', '1,2,3,4')
      ),
    ),
    words('head,neck,thorax,abdomen'),
  ),
  'CUB-200': Schema(
    'CUB-200-2011, parts.txt',
    sided('left {}', 'right {}', 'eye,leg,wing'),
    words('back,beak,belly,breast,crown,forehead,nape,tail,throat'),
  ),
  'StanfordExtra': Schema(
    'StanfordExtra',
    (
      *(
        pair
        for leg in ('front', 'rear')
        for pair in sided(
          f'left_{leg}_{{}}', f'right_{leg}_{{}}', 'paw,knee,elbow'
        )
      ),
      *sided(*LEFT_RIGHT, 'ear_base,ear_tip,eye'),
    ),
    words('tail_start,tail_end,nose,chin,withers,throat'),
  ),
  'SuperAnimal': Schema(
    'SuperAnimal-Quadruped of DeepLabCut',
    (
      *sided(*LEFT_RIGHT, 'eye,earbase,earend,antler_base,antler_end'),
      *sided('front_left_{}', 'front_right_{}', 'thai,knee,paw'),
      *sided('back_left_{}', 'back_right_{}', 'paw,thai,knee'),
      *sided('{}_left', '{}_right', 'mouth_end,body_middle'),
    ),
    words(
      'nose,upper_jaw,lower_jaw,neck_base,neck_end,throat_base,throat_end,'
      'back_base,back_end,back_middle,tail_base,tail_end,belly_bottom'
    ),
  ),
  'Open field': Schema(
    'The mouse of DeepLabCut',
    (('leftear', 'rightear'),),
    ('snout', 'tailbase'),
  ),
  # Cars.
  'CarFusion': Schema(
    'CarFusion',
    (
      *(
        pair
        for end in ('Front', 'Back')
        for pair in sided(
          f'Left {end} {{}}', f'Right {end} {{}}', 'Wheel,HeadLight,Top'
        )
      ),
    ),
    ('Exhaust', 'misc'),
  ),
  'ApolloCar3D': Schema(
    'ApolloCar3D in openpifpaf',
    sided(
      '{}_left',
      '{}_right',
      'front_up,front_light,front_low,central_up,front_wheel,rear_wheel,rear_corner,rear_up,rear_light,rear_low',
    ),
    ('rear_central',),
  ),
  'ApolloCar3D, numbers': Schema('ApolloCar3D', (), numbers('{}', 66)),
  # Examples of tools.
  'CVAT, numbers': Schema('CVAT, a new skeleton', (), numbers('{}', 17, 1)),
  'CVAT, letters': Schema(
    'CVAT, a skeleton with letters', (), tuple('abcdefghijklmnopqrstuvwxyz')
  ),
  'CVAT, COCO': Schema(
    "CVAT's documentation, a skeleton for COCO", COCO, ('nose',)
  ),
  'Label Studio, face': Schema(
    "Label Studio's template of key points", (), ('Face', 'Nose')
  ),
  'Label Studio, person': Schema(
    'Label Studio, a template of a person',
    sided('Left {}', 'Right {}', 'Eye,Ear,Shoulder,Elbow,Wrist,Hip,Knee,Ankle'),
    ('Nose',),
  ),
  'Roboflow, corners': Schema(
    'Four corners of a card', (('tl', 'tr'), ('bl', 'br'))
  ),
  'Ultralytics, tiger': Schema(
    'Tiger-pose, numbers', (), numbers('keypoint_{}', 12)
  ),
}
